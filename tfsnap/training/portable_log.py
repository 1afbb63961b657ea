"""What a run without TensorFlow tells: lines on the terminal and a file of figures."""

import json
import pathlib
import time
from collections.abc import Mapping

_SECONDS = 5.0  # Lines come no more often than this.
# A run's last two reports come at once, when the device is done: a rate is taken over more than
# this, from the report before if need be.
_LEAST = 0.01


class Log:
    """Reports a run's figures.

    Args:
      label: name of what is trained.
      path: file that gets a JSON object a line: the step, the figures, steps per second.
      start: steps already done.
      last: the step to reach.
    """

    def __init__(self, label: str, path: pathlib.Path, *, start: int, last: int):
        path.parent.mkdir(parents=True, exist_ok=True)
        self._label = label
        self._path = path
        self._last = last
        self._marks = [(start, time.monotonic())] * 2  # Steps and times of the last two reports.
        self._shown = -_SECONDS
        self._first: tuple[int, float] | None = None  # Step and time once all is compiled.

    def report(self, step: int, figures: Mapping[str, float]) -> None:
        """Records figures, means over the steps since the last report, and shows some."""
        now = time.monotonic()
        before, last = self._marks
        since, clock = last if now - last[1] > _LEAST else before
        rate = (step - since) / max(now - clock, 1e-9)
        line = {"step": step, **figures, "steps_per_second": round(rate, 3)}
        with self._path.open("a") as file:
            file.write(json.dumps(line) + "\n")
        if now - self._shown >= _SECONDS or step >= self._last:
            text = "  ".join(f"{name} {value:.4g}" for name, value in figures.items())
            print(
                f"{self._label}: step {step}/{self._last}  {text}  {rate:.2f} steps/s  "
                f"{self._left(step, now)}",
                flush=True,
            )
            self._shown = now
        self._marks = [last, (step, now)]
        self._first = self._first or (step, now)

    def _left(self, step: int, now: float) -> str:
        if self._first is None:
            return "compiled"
        first, began = self._first
        left = (self._last - step) * (now - began) / max(step - first, 1)
        return f"{int(left) // 60}:{int(left) % 60:02d} left"
