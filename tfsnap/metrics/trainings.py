"""Networks that differ in the seed of their training alone: what another training would change."""

import dataclasses
from collections.abc import Callable, Sequence

import numpy as np

from tfsnap.metrics.quality import Agreement, Difference, Distances, Estimate
from tfsnap.metrics.standard_error import standard_error
from tfsnap.metrics.sweep import Point, Result


@dataclasses.dataclass(frozen=True)
class Trained:
    """The trainings of one network at a point.

    Attributes:
      trainings: how many.
      mean: of their results, under the name that they share. Errors are standard errors between
        trainings. A difference is from one network, or where its baseline is NAME@*, of each from
        the one of its number.
    """

    trainings: int
    mean: Result


def over_trainings(results: Sequence[Result]) -> list[Trained]:
    """Means over the networks `NAME@...` of each name, steps and guidance scale.

    Args:
      results: of a sweep. Names without an @ and those of a single training are left out.
    """
    groups: dict[Point, list[Result]] = {}
    for result in results:
        if result.point.training:
            groups.setdefault(result.point.shared, []).append(result)
    return [
        Trained(len(group), _mean(point, group))
        for point, group in groups.items()
        if len(group) > 1
    ]


def _mean(point: Point, group: list[Result]) -> Result:
    first = group[0].distances

    def mean(estimate: Callable[[Result], Estimate]) -> Estimate:
        values = np.array([estimate(result).value for result in group])
        return Estimate(float(values.mean()), standard_error(values))

    def distances(name: str) -> Distances:
        kinds = [kind for kind in ("frechet", "kernel", "clip") if getattr(first[name], kind)]
        means = {kind: mean(lambda r, k=kind: getattr(r.distances[name], k)) for kind in kinds}
        return dataclasses.replace(first[name], **means)

    agreement = Agreement(
        mean(lambda result: result.agreement.clip_score),
        mean(lambda result: result.agreement.top1),
        group[0].agreement.chance,
    )
    baseline = _baseline(group)
    difference = baseline and Difference(
        baseline,
        mean(lambda result: result.difference.clip_score),
        mean(lambda result: result.difference.top1),
    )
    by_name = {name: distances(name) for name in first}
    return Result(point, group[0].count, agreement, by_name, difference)


def _baseline(group: list[Result]) -> str | None:
    """What all were compared with; None where there is nothing in common."""
    if not all(result.difference for result in group):
        return None
    names = {result.difference.baseline for result in group}
    if len(names) == 1:
        return names.pop()
    own = {r.difference.baseline.replace(f"@{r.point.training},", "@*,") for r in group}
    return own.pop() if len(own) == 1 else None
