"""What a rule is, and what it finds."""

import dataclasses
import enum
from collections.abc import Callable, Iterable

from tfsnap.export.rules.graph import Graph, Operator

GPU = "gpu"
GPU_CLASSIC = "gpu_classic"
XNNPACK = "xnnpack"
COREML = "coreml"
NNAPI = "nnapi"
GPUS = (GPU, GPU_CLASSIC)
ALL = (GPU, GPU_CLASSIC, XNNPACK, COREML, NNAPI)

Match = tuple[Operator, str]  # An operator, and what of it breaks the rule.
Finder = Callable[[Graph], Iterable[Match]]


class Effect(enum.Enum):
    """What becomes of an operator that breaks a rule."""

    REJECTED = "rejected"  # The delegate leaves it to the CPU, or refuses the model.
    WRONG = "wrong"  # The delegate takes it and computes something else.
    NOTE = "note"  # It runs, and whoever ships it should know.


@dataclasses.dataclass(frozen=True)
class Rule:
    """A fact about delegates.

    Attributes:
      id: short name.
      reason: one sentence.
      targets: names of the targets that it is for.
      effect: what becomes of an operator that breaks it.
      find: returns the operators of a graph that break it.
    """

    id: str
    reason: str
    targets: tuple[str, ...]
    effect: Effect
    find: Finder


@dataclasses.dataclass(frozen=True)
class Finding:
    """An operator that breaks a rule.

    Attributes:
      rule: the rule.
      operator: the operator.
      detail: what of it breaks the rule.
      graph: name of its subgraph, the signature; "" where there is only one.
    """

    rule: Rule
    operator: Operator
    detail: str
    graph: str = ""

    @property
    def fails(self) -> bool:
        """Whether the model would not run whole, or not right."""
        return self.rule.effect is not Effect.NOTE


def each(check: Callable[[Operator], str | None]) -> Finder:
    """Makes a `Rule.find` of a function that looks at one operator.

    Args:
      check: returns what breaks the rule, or None.
    """

    def find(graph: Graph) -> Iterable[Match]:
        for operator in graph.operators:
            detail = check(operator)
            if detail:
                yield operator, detail

    return find


def each_of(builtins: Iterable[str], check: Callable[[Operator], str | None]) -> Finder:
    """As `each`, for operators of some kinds.

    Args:
      builtins: the kinds.
      check: returns what breaks the rule, or None.
    """
    kinds = frozenset(builtins)
    return each(lambda operator: check(operator) if operator.builtin in kinds else None)
