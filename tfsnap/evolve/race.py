"""A race: the lowest of several means, without measuring the hopeless ones to the end."""

import math
from collections.abc import Callable, Hashable, Sequence
from typing import TypeVar

import numpy as np

from tfsnap.metrics.standard_error import standard_error

T = TypeVar("T", bound=Hashable)


def race(
    entrants: Sequence[T],
    measure: Callable[[Sequence[T], int], Sequence[np.ndarray]],
    *,
    laps: int,
    winners: int,
    hopeless: Callable[[T, Sequence[T]], bool] | None = None,
    floor: float = -math.inf,
    confidence: float = 2.0,
    after_lap: Callable[[int, dict[T, np.ndarray]], None] | None = None,
) -> dict[T, np.ndarray]:
    """Finds the entrants with the lowest means by successive elimination.

    All entrants are measured under the same conditions lap by lap, so that what they differ by is
    known far better than what each of them is. An entrant is better than another if their paired
    difference is below zero by `confidence` standard errors, unless neither mean is above `floor`
    by as many. After a lap, an entrant is out that is hopeless in view of those that are better,
    and one with a value that is not finite, which compares with nothing. The race ends when no
    more than `winners` are left and none of them would be hopeless if all others were better.

    Args:
      entrants: what to compare.
      measure: `(entrants, lap) -> values` of each, float [n], in the same order for all of them.
      laps: how often everybody left is measured at most.
      winners: how many are wanted.
      hopeless: `(entrant, better) -> bool`, whether an entrant cannot be one of the winners; by
        default where as many are better as are wanted.
      floor: means count as this one if they are lower.
      confidence: in standard errors; infinite measures everybody to the end.
      after_lap: told the number of laps done and all values so far.

    Returns:
      The values of all entrants, float [laps * n] or, of those that fell out, fewer.

    Reference: Maron & Moore 1994, "Hoeffding races", with paired differences.
    """
    lost = hopeless or (lambda entrant, better: len(better) >= winners)
    values: dict[T, np.ndarray] = {entrant: np.zeros(0) for entrant in entrants}
    left = list(entrants)
    for lap in range(laps):
        for entrant, measured in zip(left, measure(left, lap), strict=True):
            values[entrant] = np.concatenate([values[entrant], measured])
        if after_lap is not None:
            after_lap(lap + 1, values)
        left = [e for e in left if np.isfinite(values[e]).all()]
        better = {e: _better(e, left, values, floor=floor, confidence=confidence) for e in left}
        left = [e for e in left if not lost(e, better[e])]
        if len(left) <= winners and not any(lost(e, [o for o in left if o != e]) for e in left):
            break
    return values


def _better(
    entrant: T,
    others: Sequence[T],
    values: dict[T, np.ndarray],
    *,
    floor: float,
    confidence: float,
) -> list[T]:
    """Those whose mean is lower than that of an entrant, by more than chance."""

    def above(figures: np.ndarray, level: float) -> bool:
        return figures.mean() - level > confidence * standard_error(figures)

    def ahead(other: T) -> bool:
        mine, theirs = values[entrant], values[other]
        return above(mine - theirs, 0.0) and (above(mine, floor) or above(theirs, floor))

    return [other for other in others if other != entrant and ahead(other)]
