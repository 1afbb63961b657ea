"""Verdicts as a table for people, and as JSON for machines."""

from collections.abc import Iterable
from typing import Any

from tfsnap.export.rules.checker import Verdict
from tfsnap.export.rules.rule import Finding, Rule

_SHOWN = 5  # Operators a rule; the JSON has all.


def table(verdicts: Iterable[Verdict]) -> str:
    """Returns the verdicts, and under each the rules that were broken, by whom and why.

    Args:
      verdicts: of the models that were checked.
    """
    return "\n".join(line for verdict in verdicts for line in _lines(verdict))


def to_json(verdicts: Iterable[Verdict]) -> list[dict[str, Any]]:
    """Returns JSON types with every finding.

    Args:
      verdicts: of the models that were checked.
    """
    return [
        {
            "model": verdict.name,
            "target": verdict.target.name,
            "delegate": verdict.target.title,
            "operators": verdict.operators,
            "passed": verdict.passed,
            "ranges": _counts(verdict),
            "without_ranges": list(verdict.without_ranges),
            "findings": [_fields(finding) for finding in verdict.findings],
        }
        for verdict in verdicts
    ]


def _counts(verdict: Verdict) -> dict[str, int] | None:
    """How many tensors have recorded ranges; None where none were given."""
    if not verdict.coverage:
        return None
    return {
        "covered": sum(one.covered for one in verdict.coverage),
        "tensors": sum(one.tensors for one in verdict.coverage),
    }


def _fields(finding: Finding) -> dict[str, Any]:
    operator = finding.operator
    return {
        "rule": finding.rule.id,
        "effect": finding.rule.effect.value,
        "reason": finding.rule.reason,
        "signature": finding.graph,
        "operator": operator.index,
        "builtin": operator.builtin,
        "layer": operator.layer,
        "inputs": [str(tensor) for tensor in operator.operands],
        "outputs": [str(tensor) for tensor in operator.outputs],
        "detail": finding.detail,
    }


def _lines(verdict: Verdict) -> Iterable[str]:
    failing = len({(f.graph, f.operator.index) for f in verdict.findings if f.fails})
    result = "passes" if verdict.passed else f"FAILS, {failing} would not run there, or not right"
    yield f"{verdict.name}: {verdict.operators} operators on {verdict.target.name}: {result}"
    counts = _counts(verdict)
    if counts and counts["covered"]:
        yield f"  ranges of {counts['covered']:,} of {counts['tensors']:,} tensors"
    if verdict.without_ranges:
        graphs = f" ({', '.join(verdict.without_ranges)})" if any(verdict.without_ranges) else ""
        yield f"  no recorded ranges are of it{graphs}: overflow was not looked for there"
    by_rule: dict[Rule, list[Finding]] = {}
    for finding in verdict.findings:
        by_rule.setdefault(finding.rule, []).append(finding)
    for rule, findings in by_rule.items():
        yield f"  {rule.effect.value:8} {rule.id}: {rule.reason}"
        for finding in findings[:_SHOWN]:
            operator = finding.operator
            shapes = operator.shapes()
            detail = "" if finding.detail == shapes else f"  ({finding.detail})"
            place = f"{finding.graph} #{operator.index}" if finding.graph else f"#{operator.index}"
            yield f"    {place:<5} {operator.builtin}  {operator.layer}  {shapes}{detail}"
        if len(findings) > _SHOWN:
            yield f"    and {len(findings) - _SHOWN} more{_where(findings[_SHOWN:])}"


def _where(findings: Iterable[Finding]) -> str:
    """Which signatures findings are of, where there are several."""
    graphs = dict.fromkeys(finding.graph for finding in findings)
    return f", of {', '.join(graphs)}" if any(graphs) else ""
