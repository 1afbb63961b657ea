"""Applies the rules of a target to a model."""

import dataclasses
import pathlib
from collections.abc import Iterable

from tfsnap.export.rules import broadcasts, indexing, products, shapes, types
from tfsnap.export.rules.builtins import missing_operators
from tfsnap.export.rules.coverage import Coverage, coverage_of, require_own
from tfsnap.export.rules.graph import Graph, read_graphs, told_as_damage
from tfsnap.export.rules.limits import GpuClass, limit_rules
from tfsnap.export.rules.ranges import Ranges, range_rules
from tfsnap.export.rules.rule import GPUS, Finding, Rule
from tfsnap.export.rules.targets import Target

RULES = (*shapes.RULES, *types.RULES, *broadcasts.RULES, *indexing.RULES, *products.RULES)


@dataclasses.dataclass(frozen=True)
class Verdict:
    """What the rules say of one model.

    Attributes:
      name: of the model.
      target: the delegate.
      operators: how many the model has.
      findings: in the order of the operators.
      coverage: of each subgraph by the ranges that were given; empty without any.
    """

    name: str
    target: Target
    operators: int
    findings: tuple[Finding, ...]
    coverage: tuple[Coverage, ...] = ()

    @property
    def without_ranges(self) -> tuple[str, ...]:
        """Names of the subgraphs for which ranges were given and none was theirs.

        "" where there is only one; of these, overflow was not looked for.
        """
        return tuple(one.graph for one in self.coverage if not one.covered)

    @property
    def passed(self) -> bool:
        """Whether the model would run whole and right, as far as the file tells."""
        return not any(finding.fails for finding in self.findings)


def check_model(
    model: pathlib.Path | bytes,
    target: Target,
    *,
    name: str,
    gpu: GpuClass | None = None,
    ranges: Ranges | None = None,
) -> Verdict:
    """Checks one TFLite model.

    Args:
      model: path or content of the file.
      target: the delegate.
      name: how to call the model.
      gpu: whose images and buffers the tensors have to fit; None leaves that out.
      ranges: recorded ranges of the tensors; None leaves overflow out, and so does an empty
        recording, but the verdict says so.

    Returns:
      The verdict; of several subgraphs, the findings of all.

    Raises:
      ValueError: the file is no TFLite model, it is damaged, or the ranges are of another one.
      OSError: it cannot be read.
    """
    graphs = read_graphs(model, name=name)
    specific = [rule for rule in RULES if target.name in rule.targets]
    coverage = ()
    if gpu and target.name in GPUS:
        specific += limit_rules(gpu)
    if ranges is not None:
        with told_as_damage(name):
            coverage = tuple(coverage_of(graph, ranges) for graph in graphs)
        if ranges:
            require_own(coverage, name=name)
        specific += [rule for rule in range_rules(ranges) if target.name in rule.targets]
    with told_as_damage(name):
        findings = [found for graph in graphs for found in _findings(specific, target, graph)]
    operators = sum(len(graph.operators) for graph in graphs)
    return Verdict(name, target, operators, tuple(findings), coverage)


def _findings(specific: Iterable[Rule], target: Target, graph: Graph) -> list[Finding]:
    found = _apply(specific, graph)
    # An operator that the delegate lacks, and that a rule has said more about, is told once.
    told = {finding.operator.index for finding in found if finding.fails}
    lacks = _apply(missing_operators(target), graph)
    found += [finding for finding in lacks if finding.operator.index not in told]
    return sorted(found, key=lambda finding: finding.operator.index)


def _apply(rules: Iterable[Rule], graph: Graph) -> list[Finding]:
    return [
        Finding(rule, operator, detail, graph.name)
        for rule in rules
        for operator, detail in rule.find(graph)
    ]
