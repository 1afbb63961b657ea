"""How many tensors of a network recorded ranges name, and whether they can be its own."""

import dataclasses
import re
from collections.abc import Collection, Iterable, Sequence

from tfsnap.export.folding import AFFINE
from tfsnap.export.rules.graph import Graph, Tensor

# What `tfsnap.export.wide_convolutions` splits, it splits after a calibration.
_PART = re.compile(r"/part_\d+$")
_STRANGE = 0.1  # Share of names that exports of one network may differ in, as by other options.


@dataclasses.dataclass(frozen=True)
class Coverage:
    """What ranges say of one subgraph.

    Attributes:
      graph: name of the subgraph; "" where it is the only one.
      tensors: how many are computed in floats.
      covered: how many of these have a range.
      layers: how many inputs and outputs of layers there are. Any recording of the network has all
        of them: a calibration has no others.
      lacking: names of those that have no range.
      named: names of all tensors that have one.
    """

    graph: str
    tensors: int
    covered: int
    layers: int
    lacking: tuple[str, ...]
    named: frozenset[str]


def coverage_of(graph: Graph, ranges: Collection[str]) -> Coverage:
    """Counts the tensors of a subgraph.

    Args:
      graph: the subgraph.
      ranges: names of the tensors that were recorded.
    """
    computed = _floats(tensor for operator in graph.operators for tensor in operator.outputs)
    layers = _floats(
        tensor
        for operator in graph.operators
        if operator.builtin in AFFINE and operator.inputs[1].constant
        if not _PART.search(operator.outputs[0].name)
        for tensor in (operator.inputs[0], *operator.outputs)
    )
    lacking = tuple(name for name in layers if name not in ranges)
    covered = sum(name in ranges for name in computed)
    tensors = (t for operator in graph.operators for t in (*operator.inputs, *operator.outputs))
    named = frozenset(t.name for t in tensors if t and t.name in ranges)
    return Coverage(graph.name, len(computed), covered, len(layers), lacking, named)


def _floats(tensors: Iterable[Tensor]) -> list[str]:
    """Names of what is computed in floats, each once."""
    return list(dict.fromkeys(t.name for t in tensors if t.type == "FLOAT32" and not t.constant))


def require_own(found: Sequence[Coverage], *, name: str) -> None:
    """Checks that ranges are of this network: another one shares some names, such as inputs.

    Args:
      found: of each subgraph. A bundle is recorded at one size of picture, and has one for each:
        one that lacks nothing is enough.
      name: of the model, for the message.

    Raises:
      ValueError: they are of another network.
    """
    named = [one for one in found if one.covered]
    if not named:
        raise ValueError(f"the ranges of {name} name none of its tensors: record them again")
    best = min(named, key=lambda one: len(one.lacking))
    if best.lacking:
        raise ValueError(
            f"the ranges of {name} lack {len(best.lacking):,} of the {best.layers:,} inputs and "
            f"outputs of its layers, such as {best.lacking[0]}: they are of another network, "
            "record them again"
        )


def require_of_all(found: Sequence[Coverage], ranges: Collection[str], *, name: str) -> None:
    """Checks that ranges are not of a larger network, which has all tensors of this one.

    Args:
      found: of every subgraph of every file of the network.
      ranges: names of the tensors that were recorded.
      name: of the network, for the message.

    Raises:
      ValueError: a tenth of the names or more are of no tensor here.
    """
    others = set(ranges).difference(*(one.named for one in found))
    if len(others) > _STRANGE * len(ranges):
        raise ValueError(
            f"the ranges of {name} name {len(others):,} tensors of {len(ranges):,} that it does "
            f"not have, such as {min(others)}: they are of another network, record them again"
        )
