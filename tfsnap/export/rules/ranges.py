"""Which tensors would overflow half precision, judged by ranges that were recorded on the CPU."""

import json
import math
import os
import pathlib
from collections.abc import Iterable, Mapping

import numpy as np

from tfsnap.export.quantisation.calibration import load_calibration
from tfsnap.export.rules.graph import Graph
from tfsnap.export.rules.rule import COREML, GPU, GPU_CLASSIC, Effect, Match, Rule

LARGEST = 65504.0  # Of float16.
# Recorded pictures are a sample: other prompts may reach further.
MARGIN = 4.0

Ranges = Mapping[str, tuple[float, float]]  # Least and largest value by a tensor's name.


def load_ranges(path: str | os.PathLike) -> dict[str, Ranges]:
    """Reads recorded ranges.

    Args:
      path: JSON {component: {tensor: [least, largest]}}, an .npz with arrays of two values under
        "component:tensor", or a calibration that tools/export.py wrote, .safetensors.

    Returns:
      Ranges by component.

    Raises:
      ValueError: it is neither.
    """
    path = pathlib.Path(path)
    if path.suffix == ".safetensors":
        return {name: one.extremes() for name, one in load_calibration(path).items()}
    try:
        if path.suffix == ".npz":
            with np.load(path) as archive:
                flat = {name: archive[name] for name in archive.files}
            found: dict[str, dict] = {}
            for name, pair in flat.items():
                component, _, tensor = name.partition(":")
                found.setdefault(component, {})[tensor] = tuple(map(float, pair))
        else:
            found = json.loads(path.read_text(encoding="utf-8"))
        return {
            component: {name: (float(pair[0]), float(pair[1])) for name, pair in ranges.items()}
            for component, ranges in found.items()
        }
    except (ValueError, TypeError, AttributeError, IndexError, KeyError) as error:
        raise ValueError(f"{path} holds no recorded ranges: {error}") from error


def range_rules(ranges: Ranges) -> tuple[Rule, ...]:
    """Returns the rules about overflow that a component's recorded `ranges` allow to judge."""

    def beyond(least: float, most: float) -> Iterable[Match]:
        def find(graph: Graph) -> Iterable[Match]:
            for operator in graph.operators:
                for tensor in operator.outputs:
                    pair = ranges.get(tensor.name)
                    reached = max(map(abs, pair)) if pair else 0.0
                    if least < reached <= most or (math.isnan(reached) and most == math.inf):
                        yield operator, f"reaches {reached:,.0f}"

        return find

    targets = (GPU, GPU_CLASSIC, COREML)
    return (
        Rule(
            "overflow",
            f"Half precision ends at {LARGEST:,.0f}: what was recorded beyond becomes infinite.",
            targets,
            Effect.WRONG,
            beyond(LARGEST, math.inf),
        ),
        Rule(
            "near-overflow",
            f"Recorded within a factor {MARGIN:g} of half precision's {LARGEST:,.0f}: another "
            "prompt may pass it.",
            targets,
            Effect.NOTE,
            beyond(LARGEST / MARGIN, LARGEST),
        ),
    )


def check_ranges(graph: Graph, ranges: Ranges, *, name: str) -> None:
    """Checks that ranges were recorded of this graph.

    Args:
      graph: the graph.
      ranges: the recording.
      name: of the component, for the message.

    Raises:
      ValueError: no tensor has a range.
    """
    if not any(t.name in ranges for operator in graph.operators for t in operator.outputs):
        raise ValueError(f"the ranges of {name} name none of its tensors: record them again")
