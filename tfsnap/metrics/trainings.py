"""Networks that differ in the seed of their training alone: what another training would change."""

import dataclasses
from collections.abc import Callable, Sequence

import numpy as np

from tfsnap.metrics.quality import Estimate
from tfsnap.metrics.standard_error import standard_error
from tfsnap.metrics.sweep import Point, Result


@dataclasses.dataclass(frozen=True)
class Trained:
    """Means over the trainings of one network, each with its standard error between them.

    Attributes:
      point: where; its network is the name that the trainings share.
      trainings: how many.
      clip_score: of the pictures and their captions.
      top1: share of the pictures that find their caption.
      frechet: the Frechet distance from each reference, by its name.
      baseline: what `clip_score_difference` and `top1_difference` are from: one network, or with
        NAME@* each the one of its number; None where there is nothing in common.
      clip_score_difference: mean over the trainings of the differences picture by picture.
      top1_difference: the same of the shares.
    """

    point: Point
    trainings: int
    clip_score: Estimate
    top1: Estimate
    frechet: dict[str, Estimate]
    baseline: str | None = None
    clip_score_difference: Estimate | None = None
    top1_difference: Estimate | None = None


def over_trainings(results: Sequence[Result]) -> list[Trained]:
    """Means over the networks `NAME@...` of each name, steps and guidance scale.

    Args:
      results: of a sweep. Names without an @ and those of a single training are left out.
    """
    groups: dict[Point, list[Result]] = {}
    for result in results:
        if result.point.training:
            shared = dataclasses.replace(result.point, network=result.point.name)
            groups.setdefault(shared, []).append(result)
    return [_mean(point, group) for point, group in groups.items() if len(group) > 1]


def _mean(point: Point, group: list[Result]) -> Trained:
    def mean(value: Callable[[Result], Estimate]) -> Estimate:
        values = np.array([value(result).value for result in group])
        return Estimate(float(values.mean()), standard_error(values))

    found = Trained(
        point=point,
        trainings=len(group),
        clip_score=mean(lambda result: result.agreement.clip_score),
        top1=mean(lambda result: result.agreement.top1),
        frechet={
            name: mean(lambda result, name=name: result.distances[name].frechet)
            for name in group[0].distances
        },
    )
    baseline = _baseline(group)
    if baseline is None:
        return found
    return dataclasses.replace(
        found,
        baseline=baseline,
        clip_score_difference=mean(lambda result: result.difference.clip_score),
        top1_difference=mean(lambda result: result.difference.top1),
    )


def _baseline(group: list[Result]) -> str | None:
    """What all were compared with."""
    if not all(result.difference for result in group):
        return None
    names = {result.difference.baseline for result in group}
    if len(names) == 1:
        return names.pop()
    own = {r.difference.baseline.replace(f"@{r.point.training},", "@*,") for r in group}
    return own.pop() if len(own) == 1 else None
