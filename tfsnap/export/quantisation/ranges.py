"""From values that a tensor had to the range that its integers cover."""

from collections.abc import Callable, Mapping

import numpy as np

Range = tuple[float, float]  # Least and largest value.
Observed = Mapping[str, np.ndarray]  # Values by a tensor's name, sorted, its extremes among them.

_TAIL = 1e-3  # Share of the values that lie beyond either end.
_NOTHING = 1e-30  # A range that may be divided by.
_SHARES = np.geomspace(0.05, 1.0, 40)  # Of the extremes, among which the best is searched.


def extremes(values: np.ndarray, steps: int) -> Range:
    """Everything that was seen."""
    return float(values[0]), float(values[-1])


def percentile(values: np.ndarray, steps: int) -> Range:
    """All but a thousandth of the values at either end."""
    least, most = np.quantile(values, [_TAIL, 1.0 - _TAIL])
    return float(least), float(most)


def least_squares(values: np.ndarray, steps: int) -> Range:
    """The shares of the extremes with the least mean squared error of rounding and clipping."""
    least, most = np.minimum(values[0], 0.0), np.maximum(values[-1], 0.0)

    def best(candidates: list[Range]) -> Range:
        return min(candidates, key=lambda ends: _squared_error(values, *ends, steps))

    found = best([(share * least, share * most) for share in _SHARES])
    # An outlier is at one end: each has a share of its own.
    found = best([(share * least, found[1]) for share in _SHARES])
    found = best([(found[0], share * most) for share in _SHARES])
    return float(found[0]), float(found[1])


def _squared_error(values: np.ndarray, least: float, most: float, steps: int) -> float:
    scale = max(most - least, _NOTHING) / steps
    rounded = np.round(np.clip(values, least, most) / scale) * scale
    return float(np.mean(np.square(rounded - values)))


METHODS: dict[str, Callable[[np.ndarray, int], Range]] = {
    "extremes": extremes,
    "percentile": percentile,
    "mse": least_squares,
}


def ranges_of(observed: Observed, method: str, *, steps: int) -> dict[str, Range]:
    """Returns the range of every tensor.

    Args:
      observed: values by tensor.
      method: a key of `METHODS`.
      steps: of the integers, from one end of the range to the other.

    Raises:
      ValueError: there is no such method.
    """
    if method not in METHODS:
        raise ValueError(f"ranges is {method!r}; it must be one of {', '.join(METHODS)}")
    return {name: METHODS[method](values, steps) for name, values in observed.items()}
