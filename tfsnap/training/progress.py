"""What a run tells: a bar on a terminal, plain lines elsewhere, and TensorBoard."""

import contextlib
import pathlib
import re
import sys
import time
from collections.abc import Iterator, Mapping, Sequence

import numpy as np
import tensorflow as tf
import tqdm


def mean_figures(figures: Sequence[Mapping[str, tf.Tensor]]) -> dict[str, float]:
    """Means of the figures of some steps, at least one, by name.

    Steps whose update was skipped count for "skipped" alone, unless all were.
    """
    values = [{name: float(value) for name, value in step.items()} for step in figures]
    kept = [step for step in values if not step.get("skipped")] or values
    means = {name: float(np.mean([step[name] for step in kept])) for name in values[0]}
    if "skipped" in means:
        means["skipped"] = float(np.mean([step["skipped"] for step in values]))
    return means


class Progress:
    """Reports a run's figures.

    Args:
      label: name of what is trained.
      folder: TensorBoard's folder; None to keep silent, as all workers but one do.
      start: steps already done.
      steps: steps in all.
      batch_size: examples per step.

    Raises:
      OSError: the folder cannot be written; `report` and `pictures` raise it, too.
    """

    def __init__(
        self, label: str, folder: pathlib.Path | None, *, start: int, steps: int, batch_size: int
    ):
        self._label = label
        self._steps = steps
        self._batch_size = batch_size
        self._writer = None
        if folder:
            with self._writing():
                self._writer = tf.summary.create_file_writer(str(folder))
        self._bar = None
        if folder and sys.stderr.isatty():
            self._bar = tqdm.tqdm(desc=label, initial=start, total=steps, unit="step")
        self._reported = start
        self._start = start
        self._began = self._clock = time.monotonic()

    def report(self, step: int, figures: Mapping[str, float]) -> None:
        """Shows figures after `step` steps; adds throughput and time left."""
        if self._writer is None:
            return
        now = time.monotonic()
        rate = (step - self._reported) / max(now - self._clock, 1e-9)
        left = (self._steps - step) * (now - self._began) / max(step - self._start, 1)
        with self._writing(), self._writer.as_default(step=step):
            for name, value in figures.items():
                tf.summary.scalar(name, value)
            tf.summary.scalar("throughput/examples_per_second", rate * self._batch_size)
        shown = {name: f"{value:.4g}" for name, value in figures.items()}
        if self._bar is not None:
            self._bar.update(step - self._bar.n)
            self._bar.set_postfix(shown)
        else:
            text = "  ".join(f"{name} {value}" for name, value in shown.items())
            print(
                f"{self._label}: step {step}/{self._steps}  {text}  {rate:.2f} steps/s  "
                f"{int(left) // 60}:{int(left) % 60:02d} left",
                flush=True,
            )
        self._reported, self._clock = step, now

    def pictures(self, step: int, grids: Mapping[str, np.ndarray]) -> None:
        """Writes uint8 grids, [H, W, 3], to TensorBoard."""
        if self._writer is None:
            return
        with self._writing(), self._writer.as_default(step=step):
            for name, grid in grids.items():
                tf.summary.image(name, grid[None])

    def close(self) -> None:
        """Finishes the bar and closes TensorBoard's file."""
        if self._bar is not None:
            self._bar.close()
        if self._writer is not None:
            with contextlib.suppress(tf.errors.OpError):  # What `report` could not write it told.
                self._writer.close()

    @contextlib.contextmanager
    def _writing(self) -> Iterator[None]:
        """Turns TensorFlow's many lines about the disk into one."""
        try:
            yield
        except tf.errors.OpError as error:
            reason = re.sub(r"\{\{.*?\}\}|\[Op:.*", "", error.message).strip().splitlines()[0]
            raise OSError(f"cannot write TensorBoard's events: {reason}") from error
