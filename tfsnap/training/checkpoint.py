"""Checkpoints: one safetensors file a step, complete or absent."""

from __future__ import annotations

import concurrent.futures
import hashlib
import json
import pathlib
import re
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

import numpy as np

from tfsnap.weights.lazy import LazyTensor, open_safetensors
from tfsnap.weights.tensors import WeightFileError, WeightMismatchError, save_tensors

if TYPE_CHECKING:  # The portable runner reads and writes checkpoints without TensorFlow.
    import tensorflow as tf

CHECKPOINTS = "checkpoints"  # Their folder in a workdir.
_NAME = re.compile(r"step-(\d{8})\.safetensors")
_CHECKSUM = "sha256"
_UNFINISHED = (".step-*", ".tmp*")  # What this module and safetensors write before they rename it.


class CheckpointFolder:
    """The checkpoint files of one run, in a folder of their own.

    Args:
      folder: where they lie; made when the first is written.
      keep: how many of the newest stay.
      keep_every: those of multiples of this step stay for good; 0 for none.
    """

    def __init__(self, folder: pathlib.Path, keep: int, keep_every: int = 0):
        self._folder = folder
        self._keep = keep
        self._keep_every = keep_every

    def steps(self) -> list[int]:
        """Steps that a checkpoint exists for, oldest first."""
        matches = (_NAME.fullmatch(path.name) for path in self._folder.glob("step-*"))
        return sorted(int(match[1]) for match in matches if match)

    def path(self, step: int) -> pathlib.Path:
        """The file of the state after `step` steps."""
        return self._folder / f"step-{step:08d}.safetensors"

    def write(self, step: int, arrays: Mapping[str, np.ndarray]) -> None:
        """Writes the state after `step` steps, then removes older ones that need not stay.

        Checkpoints of later steps, which were found damaged or foreign, are left alone. What a
        process left unfinished that was killed while it wrote is removed.

        Raises:
          OSError: the disk is full or cannot be written; older checkpoints are as they were.
        """
        for pattern in _UNFINISHED:  # One process writes, so nobody else is at it.
            for path in self._folder.glob(pattern):
                path.unlink(missing_ok=True)
        checksum = _checksum((name, arrays[name]) for name in sorted(arrays))
        save_tensors(self.path(step), arrays, {"step": step, _CHECKSUM: checksum})
        known = [known for known in self.steps() if known <= step]
        for old in known[: -self._keep]:
            if not self._keep_every or old % self._keep_every:
                self.path(old).unlink()

    def newest(self, shapes: Mapping[str, tuple[int, ...]]) -> tuple[int, dict[str, LazyTensor]]:
        """Finds the newest checkpoint that is whole and fits, reading one tensor at a time.

        Args:
          shapes: of every tensor that it must have, by name.

        Returns:
          How many steps it had done, and its tensors, to be read one by one, so that memory need
          not hold all of them; 0 and none when there is no checkpoint.

        Raises:
          WeightMismatchError: there are checkpoints of another network only.
        """
        foreign: list[pathlib.Path] = []
        for step in reversed(self.steps()):
            path = self.path(step)
            try:
                tensors, about = open_safetensors(path)
                found = _checksum((name, tensors[name].read()) for name in sorted(tensors))
                if about.get(_CHECKSUM) != json.dumps(found):
                    raise WeightFileError(f"{path}: its tensors do not match its checksum")
            except WeightFileError as error:
                print(f"Skipping a damaged checkpoint: {error}", flush=True)
                continue
            if {name: tensor.shape for name, tensor in tensors.items()} != dict(shapes):
                foreign.append(path)
                continue
            for path in foreign:
                print(f"Skipping a checkpoint of another network: {path}", flush=True)
            return step, tensors
        if foreign:
            raise WeightMismatchError(
                f"{foreign[0]} belongs to another network or optimizer than the config describes; "
                "choose another --workdir, or the config it was started with"
            )
        return 0, {}


class Checkpoints(CheckpointFolder):
    """The checkpoints of a run whose state is in TensorFlow variables.

    Args:
      folder: where they lie; made when the first is written.
      state: every variable that makes up the run's state, by name.
      keep: how many of the newest stay.
      keep_every: those of multiples of this step stay for good; 0 for none.
      asynchronous: write in a thread while training goes on, for the memory of one more copy.
    """

    def __init__(
        self,
        folder: pathlib.Path,
        state: Mapping[str, tf.Variable],
        keep: int,
        keep_every: int = 0,
        asynchronous: bool = False,
    ):
        super().__init__(folder, keep, keep_every)
        self._state = state
        self._asynchronous = asynchronous
        self._writer = concurrent.futures.ThreadPoolExecutor(1)
        self._writing: concurrent.futures.Future | None = None

    def save(self, step: int) -> None:
        """Writes the state after `step` steps and removes what is older than the newest few.

        Raises:
          OSError: this checkpoint, or with `asynchronous` the one before, cannot be written.
        """
        self.wait()
        # On CPUs an array shares the variable's memory, which the next step changes: nothing is
        # copied unless that step may come before the file is complete.
        copied = np.array if self._asynchronous else np.asarray
        values = {name: variable.read_value() for name, variable in self._state.items()}
        arrays = {name: copied(value) for name, value in values.items()}
        self._writing = self._writer.submit(self.write, step, arrays)
        if not self._asynchronous:
            self.wait()

    def wait(self) -> None:
        """Returns when the last checkpoint is on disk.

        Raises:
          OSError: it cannot be written.
        """
        writing, self._writing = self._writing, None
        if writing is not None:
            writing.result()

    def restore(self) -> int:
        """Fills the state from the newest readable checkpoint.

        Returns:
          How many steps it had done; 0 when there is none, and nothing is changed.

        Raises:
          WeightMismatchError: there are checkpoints of another network only.
        """
        self.wait()
        shapes = {name: tuple(variable.shape) for name, variable in self._state.items()}
        step, tensors = self.newest(shapes)
        for name, tensor in tensors.items():
            self._state[name].assign(tensor.read())
        return step


def _checksum(tensors: Iterable[tuple[str, np.ndarray]]) -> str:
    """SHA-256 over names and values, which come in the order of the names."""
    digest = hashlib.sha256()
    for name, array in tensors:
        digest.update(name.encode())
        digest.update(np.ascontiguousarray(array).reshape(-1).view(np.uint8).data)
    return digest.hexdigest()
