"""A race: the lowest of several means, without measuring the hopeless ones to the end."""

from collections.abc import Callable, Hashable, Sequence
from typing import TypeVar

import numpy as np

T = TypeVar("T", bound=Hashable)


def standard_error(values: np.ndarray) -> float:
    """Of the mean of independent values [N]; infinite for fewer than two."""
    if len(values) < 2:
        return float("inf")
    return float(np.std(values, ddof=1) / np.sqrt(len(values)))


def race(
    entrants: Sequence[T],
    measure: Callable[[Sequence[T], int], Sequence[np.ndarray]],
    *,
    laps: int,
    winners: int,
    confidence: float = 2.0,
    after_lap: Callable[[int, dict[T, np.ndarray]], None] | None = None,
) -> dict[T, np.ndarray]:
    """Finds the entrants with the lowest means by successive elimination.

    All entrants are measured under the same conditions lap by lap, so that what they differ by is
    known far better than what each of them is. After a lap, an entrant is out whose paired
    difference from each of the best `winners` is above zero by `confidence` standard errors, and
    one with a value that is not finite, which compares with nothing. The race ends when no more
    than `winners` are left.

    Args:
      entrants: what to compare.
      measure: `(entrants, lap) -> values` of each, float [n], in the same order for all of them.
      laps: how often everybody left is measured at most.
      winners: how many are wanted.
      confidence: in standard errors; infinite measures everybody to the end.
      after_lap: told the number of laps done and all values so far.

    Returns:
      The values of all entrants, float [laps * n] or, of those that fell out, fewer.

    Reference: Maron & Moore 1994, "Hoeffding races", with paired differences.
    """
    values: dict[T, np.ndarray] = {entrant: np.zeros(0) for entrant in entrants}
    left = list(entrants)
    for lap in range(laps):
        for entrant, measured in zip(left, measure(left, lap), strict=True):
            values[entrant] = np.concatenate([values[entrant], measured])
        if after_lap is not None:
            after_lap(lap + 1, values)
        left = _survivors(left, values, winners, confidence)
        if len(left) <= winners:
            break
    return values


def _survivors(
    left: list[T], values: dict[T, np.ndarray], winners: int, confidence: float
) -> list[T]:
    finite = [entrant for entrant in left if np.isfinite(values[entrant]).all()]
    best = sorted(finite, key=lambda entrant: values[entrant].mean())[:winners]

    def hopeless(entrant: T) -> bool:
        differences = [values[entrant] - values[other] for other in best]
        return all(d.mean() > confidence * standard_error(d) for d in differences)

    return [entrant for entrant in finite if entrant in best or not hopeless(entrant)]
