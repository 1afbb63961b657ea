"""Checkpoints: one safetensors file a step, complete or absent."""

from __future__ import annotations

import pathlib
import re
from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

from tfsnap.weights.tensors import (
    WeightFileError,
    WeightMismatchError,
    load_tensors,
    save_tensors,
)

if TYPE_CHECKING:  # The portable runner reads and writes checkpoints without TensorFlow.
    import tensorflow as tf

_NAME = re.compile(r"step-(\d{8})\.safetensors")


class CheckpointFolder:
    """The checkpoint files of one run, in a folder of their own.

    Args:
      folder: where they lie; made when the first is written.
      keep: how many of the newest stay.
    """

    def __init__(self, folder: pathlib.Path, keep: int):
        self._folder = folder
        self._keep = keep

    def steps(self) -> list[int]:
        """Steps that a checkpoint exists for, oldest first."""
        matches = (_NAME.fullmatch(path.name) for path in self._folder.glob("step-*"))
        return sorted(int(match[1]) for match in matches if match)

    def path(self, step: int) -> pathlib.Path:
        """The file of the state after `step` steps."""
        return self._folder / f"step-{step:08d}.safetensors"

    def write(self, step: int, arrays: Mapping[str, np.ndarray]) -> None:
        """Writes the state after `step` steps and removes what is older than the newest few."""
        save_tensors(self.path(step), arrays, {"step": step})
        for old in self.steps()[: -self._keep]:
            self.path(old).unlink()

    def newest(self, shapes: Mapping[str, tuple[int, ...]]) -> tuple[int, dict[str, np.ndarray]]:
        """Reads the newest readable checkpoint.

        Args:
          shapes: of every tensor that it must have, by name.

        Returns:
          How many steps it had done, and its tensors; 0 and none when there is no checkpoint.

        Raises:
          WeightMismatchError: the checkpoint belongs to another network.
        """
        for step in reversed(self.steps()):
            path = self.path(step)
            try:
                arrays, _ = load_tensors(path)
            except WeightFileError as error:
                print(f"Skipping a damaged checkpoint: {error}")
                continue
            if {name: array.shape for name, array in arrays.items()} != dict(shapes):
                raise WeightMismatchError(
                    f"{path} belongs to another network or optimizer than the config describes; "
                    "choose another --workdir, or the config it was started with"
                )
            return step, arrays
        return 0, {}


class Checkpoints(CheckpointFolder):
    """The checkpoints of a run whose state is in TensorFlow variables.

    Args:
      folder: where they lie; made when the first is written.
      state: every variable that makes up the run's state, by name.
      keep: how many of the newest stay.
    """

    def __init__(self, folder: pathlib.Path, state: Mapping[str, tf.Variable], keep: int):
        super().__init__(folder, keep)
        self._state = state

    def save(self, step: int) -> None:
        """Writes the state after `step` steps and removes what is older than the newest few."""
        self.write(step, {name: variable.numpy() for name, variable in self._state.items()})

    def restore(self) -> int:
        """Fills the state from the newest readable checkpoint.

        Returns:
          How many steps it had done; 0 when there is none, and nothing is changed.

        Raises:
          WeightMismatchError: the checkpoint belongs to another network.
        """
        shapes = {name: tuple(variable.shape) for name, variable in self._state.items()}
        step, arrays = self.newest(shapes)
        for name, array in arrays.items():
            self._state[name].assign(array)
        return step
