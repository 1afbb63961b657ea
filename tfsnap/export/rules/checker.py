"""Applies the rules of a target to a model."""

import contextlib
import dataclasses
import os
import pathlib
import zipfile
from collections.abc import Iterable, Iterator

from tfsnap.export.rules import broadcasts, indexing, products, shapes, types
from tfsnap.export.rules.builtins import missing_operators
from tfsnap.export.rules.graph import Graph, read_graphs
from tfsnap.export.rules.limits import GpuClass, limit_rules
from tfsnap.export.rules.ranges import Ranges, check_ranges, range_rules
from tfsnap.export.rules.rule import GPUS, Finding, Rule
from tfsnap.export.rules.targets import Target
from tfsnap.runtime.bundle import Bundle

RULES = (*shapes.RULES, *types.RULES, *broadcasts.RULES, *indexing.RULES, *products.RULES)


@dataclasses.dataclass(frozen=True)
class Verdict:
    """What the rules say of one model.

    Attributes:
      name: of the model.
      target: the delegate.
      operators: how many the model has.
      findings: in the order of the operators.
    """

    name: str
    target: Target
    operators: int
    findings: tuple[Finding, ...]

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
      ranges: recorded ranges of the tensors; None leaves overflow out.

    Returns:
      The verdict; of several subgraphs, the findings of all.

    Raises:
      ValueError: the file is no TFLite model, or the ranges are of another one.
      OSError: it cannot be read.
    """
    graphs = read_graphs(model, name=name)
    specific = [rule for rule in RULES if target.name in rule.targets]
    if gpu and target.name in GPUS:
        specific += limit_rules(gpu)
    if ranges is not None:
        check_ranges(graphs[0], ranges, name=name)
        specific += [rule for rule in range_rules(ranges) if target.name in rule.targets]
    findings = []
    for graph in graphs:
        found = _apply(specific, graph)
        # An operator that the delegate lacks, and that a rule has said more about, is told once.
        told = {finding.operator.index for finding in found if finding.fails}
        lacks = _apply(missing_operators(target), graph)
        found += [finding for finding in lacks if finding.operator.index not in told]
        findings += sorted(found, key=lambda finding: finding.operator.index)
    return Verdict(name, target, sum(len(g.operators) for g in graphs), tuple(findings))


@contextlib.contextmanager
def models_of(path: str | os.PathLike) -> Iterator[dict[str, pathlib.Path]]:
    """Lends the models of a bundle, or the one model, by name.

    Args:
      path: a bundle (a folder or a zip), or a TFLite file.

    Yields:
      Files that are good until the block is left. Chunks of a network are "unet, chunk 0", ...

    Raises:
      FileNotFoundError: there is nothing at `path`.
      BundleError: the bundle is damaged.
    """
    path = pathlib.Path(path)
    if not path.exists():
        raise FileNotFoundError(f"there is no model at {path}")
    if not path.is_dir() and not zipfile.is_zipfile(path):
        yield {path.stem: path}
        return
    bundle, found = Bundle.open(path), {}
    with contextlib.ExitStack() as stack:
        for name, component in bundle.manifest.components.items():
            for number, part in enumerate(component.files):
                told = f"{name}, chunk {number}" if component.chunks else name
                found[told] = stack.enter_context(bundle.lend(name, part.file))
        yield found


def _apply(rules: Iterable[Rule], graph: Graph) -> list[Finding]:
    return [
        Finding(rule, operator, detail) for rule in rules for operator, detail in rule.find(graph)
    ]
