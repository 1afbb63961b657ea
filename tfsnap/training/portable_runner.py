"""Trains with a portable step through JAX, on any PJRT device and without TensorFlow.

Needs jax, numpy, safetensors and Pillow. Checkpoints are the project's own: `tools/train.py` goes
on from them, and this runner from those of `tools/train.py`.
"""

import dataclasses
import math
import pathlib
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import NamedTuple

import jax
import jax.export
import jax.numpy as jnp
import numpy as np

from tfsnap.data.shuffle import rows_of_steps
from tfsnap.errors import TfsnapError
from tfsnap.training.checkpoint import CHECKPOINTS, CheckpointFolder
from tfsnap.training.portable_format import (
    MODULE,
    Argument,
    Manifest,
    load_state,
    load_tables,
)
from tfsnap.training.portable_log import Log
from tfsnap.training.portable_weights import frozen_weights, initial_weights
from tfsnap.weights.tensors import (
    WeightFileError,
    load_tensors,
    save_tensors,
)

# The optimizer counts in int64; set before the first array is made.
jax.config.update("jax_enable_x64", True)

State = dict[str, jax.Array]

_LOSS_SCALE = "optimizer/loss_scale"  # Of float16 only.


class DivergedError(TfsnapError, RuntimeError):
    """The loss, or its gradient, is no longer finite."""


class PortableStep:
    """The step of a folder, compiled for the default device of JAX.

    Args:
      folder: what `tools/compile_step.py` wrote.
      data: folder of the training data.
      most: the most steps of one call.
      init: weights to start from instead of the folder's.
      frozen: weights of the networks that are only read, instead of the folder's.

    Attributes:
      manifest: names, shapes and numbers.
      index: int64 [M], the rows of an epoch.

    Raises:
      WeightFileError: a file is missing or damaged, or the data is not what the step reads.
      WeightMismatchError: `init` or one of `frozen` belongs to another network.
    """

    def __init__(
        self,
        folder: pathlib.Path,
        *,
        data: pathlib.Path,
        most: int,
        init: pathlib.Path | None = None,
        frozen: Sequence[pathlib.Path] = (),
    ):
        self.manifest = Manifest.load(folder)
        tables, self.index = load_tables(data)
        _check_tables(data, tables, self.manifest)
        values = load_state(folder, self.manifest)
        values |= initial_weights(self.manifest, load_tensors(init)[0], init) if init else {}
        values |= frozen_weights(self.manifest, frozen)
        changing = {*self.manifest.results, *(a.name for a in self.manifest.checkpoint)}
        self._initial = {name: value for name, value in values.items() if name in changing}
        constant = {name: value for name, value in values.items() if name not in changing}
        tables = {f"tables/{name}": table for name, table in tables.items()}
        # Named, so that it is the same to JAX as the device of a result: else it compiles twice.
        self._device = jax.devices()[0]
        self._constant = jax.device_put({**constant, **tables}, self._device)
        self._module = _exported((folder / MODULE).read_bytes(), self.manifest)
        self._most = most
        self._steps = jax.jit(self._many, donate_argnames="state")

    def initial_state(self, checkpoint: Mapping[str, np.ndarray]) -> State:
        """The changing arguments before the first step, on the device.

        Args:
          checkpoint: values by name to start from instead of the folder's.
        """
        return jax.device_put({**self._initial, **checkpoint}, self._device)

    def __call__(self, state: State, *, first: int, count: int) -> tuple[State, State]:
        """Runs steps `first` to `first + count - 1`; `state` is used up.

        Returns:
          The state after them, and each figure after each step, float32 [most], of which the first
          `count` count.
        """
        m = self.manifest
        rows = np.zeros([self._most, m.batch_size], np.int32)
        rows[:count] = rows_of_steps(
            self.index, seed=m.seed, first_step=first, steps=count, batch_size=m.batch_size
        )
        return self._steps(
            np.int32(first), np.int32(count), rows, constant=self._constant, state=state
        )

    def _many(
        self, first: jax.Array, count: jax.Array, rows: jax.Array, *, constant: State, state: State
    ) -> tuple[State, State]:
        def one(i: jax.Array, carried: tuple[State, State]) -> tuple[State, State]:
            state, figures = carried
            known = {**constant, **state, "rows": rows[i], "step": first + i}
            results = self._module.call(*(known[a.name] for a in self.manifest.arguments))
            found = dict(zip(self.manifest.results, results, strict=True))
            figures = {name: figures[name].at[i].set(found[name]) for name in figures}
            return {name: found.get(name, state[name]) for name in state}, figures

        empty = jnp.zeros([self._most], jnp.float32)
        start = (state, {name: empty for name in self.manifest.figures})
        if self._most == 1:  # XLA's loops cost much on CPUs: convolutions in them are slow.
            return one(jnp.int32(0), start)
        return jax.lax.fori_loop(jnp.int32(0), count, one, start)


def _check_tables(data: pathlib.Path, tables: Mapping[str, np.ndarray], manifest: Manifest) -> None:
    wanted = {a.name: a for a in manifest.arguments if a.name.startswith("tables/")}
    found = {
        f"tables/{name}": Argument(f"tables/{name}", str(table.dtype), table.shape)
        for name, table in tables.items()
    }
    if found != wanted:
        seen, asked = (
            ", ".join(f"{a.name.removeprefix('tables/')} {a.dtype} {list(a.shape)}" for a in each)
            for each in (found.values(), wanted.values())
        )
        raise WeightFileError(
            f"{data} holds {seen}, and the step was compiled for {asked}: give the data that "
            "tools/compile_step.py wrote with it"
        )


def _exported(module: bytes, manifest: Manifest) -> jax.export.Exported:
    """Makes a StableHLO module callable from JAX: put in the place of one that JAX exported."""
    arguments = {a.name: jax.ShapeDtypeStruct(a.shape, a.dtype) for a in manifest.arguments}
    figure = jax.ShapeDtypeStruct((), np.float32)
    results = [arguments.get(name, figure) for name in manifest.results]

    def step(*_: jax.Array) -> list[jax.Array]:
        return [jnp.zeros(result.shape, result.dtype) for result in results]

    stand_in = jax.export.export(jax.jit(step, keep_unused=True))(*arguments.values())
    return dataclasses.replace(stand_in, mlir_module_serialized=module)


class Call(NamedTuple):
    """Steps that the device was asked for.

    Attributes:
      done: steps of the run after them.
      count: how many they are.
      figures: float32 [most] each, of which the first `count` count.
    """

    done: int
    count: int
    figures: State


class PortableRun:
    """A run in a workdir; running it again goes on where it stopped.

    Args:
      folder: what `tools/compile_step.py` wrote.
      data: folder of the training data; by default `folder`.
      workdir: gets `checkpoints/` and `figures.jsonl`, and at the end `weights.safetensors`.
      steps_per_call: most steps between two returns to Python; by default 1 on a CPU, and elsewhere
        those between two log lines.
      checkpoint_every: steps between checkpoints, 0 for one at the end; by default the config's.
      init: weights of a network of the same shape to start from where there is no checkpoint yet.
      frozen: weight files of the networks that are only read, see `portable_weights`.

    Example:
      >>> PortableRun(pathlib.Path("step"), workdir=pathlib.Path("runs/clip")).train()
    """

    def __init__(
        self,
        folder: pathlib.Path,
        *,
        workdir: pathlib.Path,
        data: pathlib.Path | None = None,
        steps_per_call: int | None = None,
        checkpoint_every: int | None = None,
        init: pathlib.Path | None = None,
        frozen: Sequence[pathlib.Path] = (),
    ):
        self.manifest = m = Manifest.load(folder)
        self.workdir = workdir
        on_cpu = jax.default_backend() == "cpu"
        self._per_call = steps_per_call or (1 if on_cpu else m.log_every)
        every = m.checkpoint_every if checkpoint_every is None else checkpoint_every
        self._checkpoint_every = every or m.steps
        self._checkpoints = _checkpoints_of(m, workdir)
        self._step = PortableStep(
            folder, data=data or folder, most=self._per_call, init=init, frozen=frozen
        )
        self.done, found = self._checkpoints.newest({a.name: a.shape for a in m.checkpoint})
        self.done = self.done or m.first_step
        self._state = self._step.initial_state({name: t.read() for name, t in found.items()})

    def train(
        self,
        *,
        steps: int | None = None,
        seconds: float = math.inf,
        stopped: Callable[[], bool] = lambda: False,
    ) -> None:
        """Trains and writes a checkpoint at the end, unless the loss diverged.

        Args:
          steps: stop after this many steps; by default at the end of the run.
          seconds: stop after this time, the compilation included.
          stopped: asked after every call whether to stop.

        Raises:
          DivergedError: the loss, or its gradient, is no longer finite.
        """
        began, start = time.monotonic(), self.done
        last = min(self.manifest.steps, start + (self.manifest.steps if steps is None else steps))
        log = Log(self.manifest.label, self.workdir / "figures.jsonl", start=start, last=last)
        pending: list[Call] = []  # Their figures are read when the device has its next call.
        for count in self._calls(last):
            logged = self.done % self.manifest.log_every == 0
            self._state, figures = self._step(self._state, first=self.done, count=count)
            self.done += count
            if logged and pending:
                self._report(log, pending)
                pending = []
            pending.append(Call(self.done, count, figures))
            late = stopped() or time.monotonic() - began > seconds
            if late or self.done == last or self.done % self._checkpoint_every == 0:
                self._report(log, pending)
                self._save()
                pending = []
            if late:
                break

    @property
    def complete(self) -> bool:
        """Whether all steps of the run are done."""
        return self.done >= self.manifest.steps

    def save_averages(self, path: pathlib.Path, *, dtype: str = "float32", **about: object) -> None:
        """Writes the averaged weights.

        Args:
          path: safetensors file to write; `load_trained` reads it if the manifest describes the
            network.
          dtype: "float32" or "float16", the type on disk.
          **about: further metadata.
        """
        arrays = {}
        for name in self._state:
            part, _, address = name.partition("/")
            if part == "model":  # What is not trained has no average.
                averaged = self._state.get(f"ema/{address}", self._state[name])
                arrays[address] = np.asarray(averaged).astype(dtype)
        save_tensors(path, arrays, {**(self.manifest.description or {}), **about})

    def _calls(self, last: int) -> Iterator[int]:
        """Numbers of steps of the calls up to `last`; none reaches over a checkpoint or a line."""
        while self.done < last:
            every = (self._checkpoint_every, self.manifest.log_every)
            yield min(self._per_call, last - self.done, *(n - self.done % n for n in every))

    def _report(self, log: Log, calls: Sequence[Call]) -> None:
        """Logs the means of the figures of some calls."""
        values = {
            name: np.concatenate([np.asarray(c.figures[name])[: c.count] for c in calls])
            for name in self.manifest.figures
        }
        for name in self._watched:
            finite = np.isfinite(values[name])
            if not finite.all():
                bad = calls[-1].done - len(finite) + 1 + int(np.argmin(finite))
                raise DivergedError(self._divergence(f"{name} of step {bad}"))
        log.report(calls[-1].done, {name: float(v.mean()) for name, v in values.items()})

    @property
    def _watched(self) -> tuple[str, ...]:
        """Figures that must be finite; with a scaled loss the optimizer drops what overflows."""
        return ("loss",) if _LOSS_SCALE in self._state else ("loss", "gradient_norm")

    def _divergence(self, what: str) -> str:
        steps = self._checkpoints.steps()
        return (
            f"the {what} is not finite; compile the step with a lower "
            "config.training.optimizer.learning_rate. "
            f"Last checkpoint: {f'step {steps[-1]}' if steps else 'none'}"
        )

    def _save(self) -> None:
        names = [argument.name for argument in self.manifest.checkpoint]
        self._checkpoints.write(self.done, {n: np.asarray(self._state[n]) for n in names})


def adopt_averages(folder: pathlib.Path, averages: pathlib.Path, *, workdir: pathlib.Path) -> int:
    """Writes a checkpoint from averaged weights alone, for `tools/train.py` to finish the run.

    A file of averages in float16 is an eighth of a checkpoint, which pays where a device's results
    travel far. The optimizer's state is lost.

    Args:
      folder: what `tools/compile_step.py` wrote.
      averages: a file of `PortableRun.save_averages` with the metadata `step`.
      workdir: the run to finish.

    Returns:
      The step of the checkpoint.

    Raises:
      WeightFileError: the file is missing or damaged, or was not made by `tools/run_step.py`.
      WeightMismatchError: it belongs to another network.
    """
    manifest = Manifest.load(folder)
    tensors, about = load_tensors(averages)
    if "step" not in about:
        raise WeightFileError(f"{averages} does not tell its step; run_step.py --export_dtype does")
    state = {a.name: np.zeros(a.shape, a.dtype) for a in manifest.checkpoint}
    state |= initial_weights(manifest, tensors, averages)
    state["optimizer/iteration"] = np.asarray(about["step"], np.int64)
    _checkpoints_of(manifest, workdir).write(about["step"], state)
    return about["step"]


def _checkpoints_of(manifest: Manifest, workdir: pathlib.Path) -> CheckpointFolder:
    folder = workdir / CHECKPOINTS
    return CheckpointFolder(folder, manifest.keep_checkpoints, manifest.keep_every)
