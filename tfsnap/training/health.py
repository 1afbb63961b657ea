"""Whether training still makes sense: losses that are not finite, or that explode."""

import math

_WARM = 20  # Losses before a level is trusted.
_DECAY = 0.98


class Health:
    """Follows the loss of every step.

    Args:
      growth: a loss this many times its running level counts as exploded.
    """

    def __init__(self, growth: float):
        self._growth = growth
        self._level = 0.0
        self._seen = 0

    def complaint(self, loss: float) -> str | None:
        """What is wrong with the loss of the next step; None when nothing is."""
        if not math.isfinite(loss):
            return f"is {loss}"
        if self._seen >= _WARM and loss > self._growth * self._level > 0:
            times = loss / self._level
            return f"is {loss:.4g}, {times:.0f} times its running level of {self._level:.4g}"
        self._seen += 1
        weight = max(1.0 - _DECAY, 1.0 / self._seen)
        self._level += weight * (loss - self._level)
        return None
