"""Checkpoints: one safetensors file a step, complete or absent."""

import pathlib
import re
from collections.abc import Mapping

import tensorflow as tf

from tfsnap.weights.store import (
    WeightFileError,
    WeightMismatchError,
    load_tensors,
    save_tensors,
)

_NAME = re.compile(r"step-(\d{8})\.safetensors")


class Checkpoints:
    """The checkpoints of one run, in a folder of their own.

    Args:
      folder: where they lie; made when the first is written.
      state: every variable that makes up the run's state, by name.
      keep: how many of the newest stay.
    """

    def __init__(self, folder: pathlib.Path, state: Mapping[str, tf.Variable], keep: int):
        self._folder = folder
        self._state = state
        self._keep = keep

    def steps(self) -> list[int]:
        """Steps that a checkpoint exists for, oldest first."""
        matches = (_NAME.fullmatch(path.name) for path in self._folder.glob("step-*"))
        return sorted(int(match[1]) for match in matches if match)

    def save(self, step: int) -> None:
        """Writes the state after `step` steps and removes what is older than the newest few."""
        arrays = {name: variable.numpy() for name, variable in self._state.items()}
        save_tensors(self._path(step), arrays, {"step": step})
        for old in self.steps()[: -self._keep]:
            self._path(old).unlink()

    def restore(self) -> int:
        """Fills the state from the newest readable checkpoint.

        Returns:
          How many steps it had done; 0 when there is none, and nothing is changed.

        Raises:
          WeightMismatchError: the checkpoint belongs to another network.
        """
        for step in reversed(self.steps()):
            path = self._path(step)
            try:
                arrays, _ = load_tensors(path)
            except WeightFileError as error:
                print(f"Skipping a damaged checkpoint: {error}")
                continue
            if arrays.keys() != self._state.keys() or any(
                arrays[name].shape != tuple(self._state[name].shape) for name in arrays
            ):
                raise WeightMismatchError(
                    f"{path} belongs to another network or optimizer than the config describes; "
                    "choose another --workdir, or the config it was started with"
                )
            for name, variable in self._state.items():
                variable.assign(arrays[name])
            return step
        return 0

    def _path(self, step: int) -> pathlib.Path:
        return self._folder / f"step-{step:08d}.safetensors"
