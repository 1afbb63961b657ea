"""Which tensors would overflow half precision, judged by ranges that were recorded on the CPU."""

import io
import json
import math
import os
import pathlib
import struct
import zipfile
import zlib
from collections.abc import Iterable, Mapping

import numpy as np

from tfsnap.export.quantisation.calibration import load_calibration
from tfsnap.export.rules.graph import Graph, in_one_line
from tfsnap.export.rules.rule import COREML, GPU, GPU_CLASSIC, Effect, Match, Rule

LARGEST = 65504.0  # Of float16.
# Recorded pictures are a sample: other prompts may reach further.
MARGIN = 4.0
HALF_TARGETS = (GPU, GPU_CLASSIC, COREML)  # Those that compute in half precision.

# What another, an empty or a damaged file makes json, numpy and zipfile raise.
_UNREADABLE = (
    ValueError,
    TypeError,
    AttributeError,
    LookupError,
    ArithmeticError,
    EOFError,
    MemoryError,
    RuntimeError,  # Of encrypted members, unknown compression and JSON that is nested too deeply.
    struct.error,
    zipfile.BadZipFile,
    zlib.error,
)

Ranges = Mapping[str, tuple[float, float]]  # Least and largest value by a tensor's name.


def load_ranges(path: str | os.PathLike) -> dict[str, Ranges]:
    """Reads recorded ranges.

    Args:
      path: JSON {component: {tensor: [least, largest]}}, an .npz with arrays of two values under
        "component:tensor", or a calibration that tools/export.py wrote, .safetensors.

    Returns:
      Ranges by component.

    Raises:
      ValueError: it is neither, or damaged.
      OSError: it cannot be read.
    """
    path = pathlib.Path(path)
    if path.suffix == ".safetensors":
        return {name: one.extremes() for name, one in load_calibration(path).items()}
    content = path.read_bytes()  # At once: then whatever fails below is of its content.
    try:
        found = _from_archive(content) if path.suffix == ".npz" else json.loads(content)
        return {
            component: {name: (float(pair[0]), float(pair[1])) for name, pair in ranges.items()}
            for component, ranges in found.items()
        }
    except _UNREADABLE as error:
        why = in_one_line(error) if isinstance(error, ValueError) else "it is made otherwise"
        raise ValueError(
            f"{path} holds no recorded ranges: {why}; tools/check_delegate.py --record writes such "
            "a file"
        ) from error


def _from_archive(content: bytes) -> dict[str, dict[str, np.ndarray]]:
    found: dict[str, dict] = {}
    with np.load(io.BytesIO(content)) as archive:
        for name in archive.files:
            component, _, tensor = name.partition(":")
            found.setdefault(component, {})[tensor] = archive[name]
    return found


def _furthest(pair: tuple[float, float]) -> float:
    """NaN where either end is: `max` would tell of the first alone."""
    return math.nan if any(map(math.isnan, pair)) else max(map(abs, pair))


def range_rules(ranges: Ranges) -> tuple[Rule, ...]:
    """Returns the rules about overflow that a component's recorded `ranges` allow to judge."""

    def beyond(least: float, most: float) -> Iterable[Match]:
        def find(graph: Graph) -> Iterable[Match]:
            for operator in graph.operators:
                for tensor in operator.outputs:
                    pair = ranges.get(tensor.name)
                    reached = _furthest(pair) if pair else 0.0
                    if least < reached <= most or (math.isnan(reached) and most == math.inf):
                        yield operator, f"reaches {reached:,.0f}"

        return find

    return (
        Rule(
            "overflow",
            f"Half precision ends at {LARGEST:,.0f}: what was recorded beyond becomes infinite.",
            HALF_TARGETS,
            Effect.WRONG,
            beyond(LARGEST, math.inf),
        ),
        Rule(
            "near-overflow",
            f"Recorded within a factor {MARGIN:g} of half precision's {LARGEST:,.0f}: another "
            "prompt may pass it.",
            HALF_TARGETS,
            Effect.NOTE,
            beyond(LARGEST / MARGIN, LARGEST),
        ),
    )
