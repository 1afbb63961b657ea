"""The training loop."""

import contextlib
import itertools
import math
import pathlib
import re
from collections.abc import Callable, Iterator
from typing import Any, Protocol

import numpy as np
import tensorflow as tf
import tf_keras as keras

from tfsnap.data.shards import ShardError
from tfsnap.errors import TfsnapError
from tfsnap.models.unet import ADDED
from tfsnap.objectives.base import Batch, Objective
from tfsnap.training.checkpoint import CHECKPOINTS, Checkpoints
from tfsnap.training.config import TrainingConfig
from tfsnap.training.health import Health
from tfsnap.training.optimizer import (
    WarmupCosine,
    WeightAverage,
    build_optimizer,
    optimizer_state,
)
from tfsnap.training.precision import computing_in
from tfsnap.training.progress import Progress, mean_figures
from tfsnap.training.rematerialize import rematerialize
from tfsnap.training.step import Figures, TrainStep
from tfsnap.training.stopping import StopRequest, Watchdog
from tfsnap.training.strategy import iterate, place_of
from tfsnap.weights.store import addressed, load_weights, save_weights

WEIGHTS = "weights.safetensors"  # The averaged weights of a finished run, in its workdir.
ON_NAN = ("stop", "skip", "rollback")
_ROLLBACKS = 3  # From one checkpoint; a fourth would not help either.
_DAMAGED_DATA = re.compile(f"{ShardError.__name__}: (.*)")  # TensorFlow keeps its text only.
_SHOWN = 3  # Captions of a batch that spoiled the loss.


class TrainingError(TfsnapError, RuntimeError):
    """Training cannot go on; the message says why and what to do."""


class Job(Protocol):
    """Something to train: a network, its objective and its data. See `tfsnap.training.jobs`."""

    label: str
    training: TrainingConfig

    def build(self) -> tuple[keras.Model, Objective]:
        """Makes the network and its objective; called once, under the strategy's scope."""
        ...

    def batches(self, start_step: int, *, part: tuple[int, int] = (0, 1)) -> tf.data.Dataset:
        """An endless data set of batches whose first element is that of `start_step`.

        Args:
          start_step: number of the first step.
          part: (i, n) for the i-th of n equal parts of each global batch.
        """
        ...

    def previews(self, model: keras.Model) -> dict[str, np.ndarray]:
        """Pictures of what the network does now: uint8 [H, W, 3] by name."""
        ...

    def describe(self, model: keras.Model) -> dict[str, Any]:
        """Metadata stored with the weights, enough to build the network again."""
        ...

    def captions(self, step: int) -> list[str]:
        """What the examples of a step's batch show, to find what spoiled a loss."""
        ...


class Trainer:
    """Trains a job in a workdir; running the same job again goes on where it stopped.

    The workdir gets `checkpoints/` (the whole state), `tensorboard/`, and at the end
    `weights.safetensors`: the averaged weights with a description of the network. Where several
    workers train together they share one workdir, and the first of them writes.

    Args:
      job: what to train.
      workdir: folder of the run.
      strategy: where to train.
      on_nan: what to do when the loss is no longer finite or explodes. "stop" raises. "skip" drops
        the updates of batches whose loss or gradient is not finite, and stops for a loss that is
        finite but explodes. "rollback" puts weights and optimizer back to the newest checkpoint and
        goes on with the data that follows, so that what spoiled the loss does not come again.
      hang_timeout: seconds after which a step that does not finish ends the process; 0 for never.

    Raises:
      TrainingError: the config does not fit the strategy or the objective.

    Example:
      >>> Trainer(job, workdir=pathlib.Path("runs/clip"), strategy=make_strategy("one")).fit()
    """

    def __init__(
        self,
        job: Job,
        *,
        workdir: pathlib.Path,
        strategy: tf.distribute.Strategy,
        on_nan: str = "stop",
        hang_timeout: float = 0.0,
    ):
        self.job = job
        self.config = job.training
        self.workdir = workdir
        self.strategy = strategy
        self.place = place_of(strategy)
        self.on_nan = on_nan
        self.hang_timeout = hang_timeout
        self._check_batch()
        keras.utils.set_random_seed(self.config.seed)
        with strategy.scope(), computing_in(self.config.precision):
            self.model, self.objective = job.build()
            self._check_objective()
            variables = self.model.trainable_variables
            self.optimizer = build_optimizer(
                self.config.optimizer,
                steps=self.config.steps,
                variables=variables,
                scale_loss=self.config.precision == "float16",
            )
            self.average = WeightAverage(variables, self.config.optimizer.ema_decay)
        self.checkpoints = Checkpoints(
            workdir / CHECKPOINTS,
            self.state,
            self.config.keep_checkpoints,
            self.config.keep_every,
            self.config.asynchronous_checkpoints,
        )
        try:
            rematerialize(self.model, self.config.rematerialize)
            self._train = TrainStep(
                model=self.model,
                objective=self.objective,
                optimizer=self.optimizer,
                average=self.average,
                config=self.config,
                skip_nan=on_nan == "skip",
            )
        except ValueError as error:
            raise TrainingError(str(error)) from error
        # Objectives have no Python control flow over tensors; to convert it costs seconds.
        self._step = tf.function(self.global_step, autograph=False)
        self._steps = tf.function(self._several_steps, autograph=False)

    def fit(self, stop: StopRequest | None = None) -> pathlib.Path | None:
        """Trains to the last step and writes the averaged weights.

        Args:
          stop: where signals are noted; when one comes the run ends after a checkpoint.

        Returns:
          The path of the weight file; None when a signal ended the run before its last step.

        Raises:
          TrainingError: the loss is no longer finite, or a checkpoint cannot be written.
          OSError: the disk is full or cannot be written.
          Stopped: a signal came outside of the loop; the next run goes on.
        """
        stop = stop or StopRequest()
        done = self.restore()
        if done >= self.config.steps and self._has_weights_of(done):
            print(f"{self.job.label}: already trained, {self.weights_path}")
            return self.weights_path
        progress = Progress(
            self.job.label,
            self.workdir / "tensorboard" if self.place.chief else None,
            start=done,
            steps=self.config.steps,
            batch_size=self.config.batch_size,
        )
        with contextlib.closing(progress):
            # Without steps to do only the weights are missing: making data may be slow.
            if done < self.config.steps:
                data = self._batches(done)
                with stop.deferred():
                    done = self._loop(done, data, progress, stop)
            if done < self.config.steps:
                print(f"{self.job.label}: stopped by {stop.signal} after step {done}", flush=True)
                return None
            if self.place.chief:
                self._save_weights()  # First: whatever keeps pictures from being drawn.
                self._draw(done, progress)
        return self.weights_path

    def _has_weights_of(self, done: int) -> bool:
        """Whether the weight file is that of step `done`, not of a run that became longer."""
        if not self.weights_path.is_file():
            return False
        saved = self.checkpoints.path(done).stat().st_mtime_ns
        return self.weights_path.stat().st_mtime_ns >= saved

    @property
    def weights_path(self) -> pathlib.Path:
        """Where the averaged weights of the finished run lie."""
        return self.workdir / WEIGHTS

    @property
    def state(self) -> dict[str, tf.Variable]:
        """Every variable of the run by its name in checkpoints: `<part>/<address>`."""
        parts = {
            "model": addressed(self.model.variables),
            "ema": self.average.variables,
            "optimizer": optimizer_state(self.optimizer),
        }
        return {f"{part}/{name}": v for part, named in parts.items() for name, v in named.items()}

    def train_step(self, batch: Batch, step: int) -> Figures:
        """Runs one step on a global batch, for tests and for timing.

        Returns:
          The mean loss and metrics over the global batch.
        """

        def part_of_batch(part: int, parts: int) -> tf.data.Dataset:
            rows = self.config.batch_size // parts
            own = {name: value[part * rows : (part + 1) * rows] for name, value in batch.items()}
            return tf.data.Dataset.from_tensors(own)

        return self._step(next(self._distributed(part_of_batch)), tf.constant(step))

    def calls(self, start: int = 0) -> Iterator[Figures]:
        """Trains on the job's data without end and without bookkeeping, for timing.

        Args:
          start: number of the first step.

        Yields:
          The mean figures of the steps of one call from Python, `steps_per_call` of them.
        """
        data = self._batches(start)
        for done in itertools.count(start, self.config.steps_per_call):
            yield self._advance(data, done)

    def global_step(self, batch: Batch, step: tf.Tensor) -> Figures:
        """The step itself, to be traced by a `tf.function`: what every step of `fit` does.

        Args:
          batch: the examples, as the strategy distributes them.
          step: int32 scalar, from 0.

        Returns:
          The mean loss and metrics over the global batch.
        """
        return self._train(self.strategy, batch, step)

    def _several_steps(self, data: Iterator, step: tf.Tensor) -> Figures:
        """Means over the steps of one call from Python."""
        count = self.config.steps_per_call

        def add(i: tf.Tensor, sums: Figures) -> tuple[tf.Tensor, Figures]:
            return i + 1, tf.nest.map_structure(tf.add, sums, self._step(next(data), step + i))

        first = self._step(next(data), step)
        _, sums = tf.while_loop(
            lambda i, _: i < count, add, (tf.constant(1), first), parallel_iterations=1
        )
        return tf.nest.map_structure(lambda total: total / count, sums)

    def _batches(self, start: int) -> Iterator:
        """The job's batches from a step on."""
        return self._distributed(lambda i, n: self.job.batches(start, part=(i, n)))

    def _distributed(self, part_of_batches: Callable[[int, int], tf.data.Dataset]) -> Iterator:
        """Gives every replica its rows; every worker makes its own part of a batch only."""
        rows = self.config.batch_size // self.strategy.num_replicas_in_sync

        def part(worker: int, workers: int) -> tf.data.Dataset:
            data = part_of_batches(worker, workers)
            return data.rebatch(rows, drop_remainder=True).prefetch(tf.data.AUTOTUNE)

        return iterate(self.strategy, part)

    def _check_batch(self) -> None:
        c, replicas = self.config, self.strategy.num_replicas_in_sync
        if c.batch_size % (replicas * c.accumulate):
            raise TrainingError(
                f"batch_size is {c.batch_size}; with {replicas} replicas and {c.accumulate} "
                f"micro-batches it must be a multiple of {replicas * c.accumulate}"
            )
        if self.on_nan not in ON_NAN:
            raise TrainingError(f"on_nan is {self.on_nan!r}; it must be one of {', '.join(ON_NAN)}")

    def _check_objective(self) -> None:
        several = self.strategy.num_replicas_in_sync > 1
        if several and self.config.jit_compile and not self.objective.separable:
            raise TrainingError(
                f"training.jit_compile is True, but {self.job.label} compares the rows of "
                f"{self.strategy.num_replicas_in_sync} replicas, which XLA cannot: it must be False"
            )

    def restore(self) -> int:
        """Goes back to the newest checkpoint, of which all workers must see the same.

        Without a checkpoint it begins: with the weights of `init`, if the config names some.

        Returns:
          How many steps the checkpoint had done.

        Raises:
          TrainingError: workers see different checkpoints.
          WeightFileError: the file of `init` is missing or damaged.
          WeightMismatchError: the checkpoint, or that file, belongs to another network.
        """
        done = self.checkpoints.restore()
        if self.place.workers > 1:
            self._require_one_start(done)
        if not done and self.config.init:
            load_weights(self.config.init, self.model.variables, added=ADDED)
            self.average.start()
        return done

    def _require_one_start(self, done: int) -> None:
        @tf.function(autograph=False)
        def gathered() -> tf.Tensor:
            own = self.strategy.run(lambda: tf.constant([done], tf.int64))
            return self.strategy.gather(own, axis=0)

        starts = sorted(set(gathered().numpy().tolist()))
        if len(starts) > 1:
            raise TrainingError(
                f"workers found checkpoints of different steps, {starts}: --workdir={self.workdir} "
                "must be one folder that all of them share"
            )

    def _loop(self, done: int, data: Iterator, progress: Progress, stop: StopRequest) -> int:
        """Trains from step `done` on; returns the step it came to."""
        c = self.config
        health, recent, rollbacks = Health(c.max_loss_growth), [], 0
        unreported: list[Figures] = []
        watchdog = Watchdog(self.hang_timeout, str(self.place))
        try:
            while done < c.steps:
                figures = self._advance(data, done)
                recent.append((done, figures))
                done += self._steps_of_call(done)
                watchdog.feed(done)
                stopping = self._agreed(stop.signal is not None)
                if not (stopping or self._is_time(done)):
                    continue
                complaint = self._complaint(health, recent)
                unreported += [figures for _, figures in recent]
                recent = []
                if complaint:
                    rollbacks += 1
                    self._handle(complaint, rollbacks)
                    health, unreported = Health(c.max_loss_growth), []
                    if done < c.steps and not stopping:
                        continue
                    self._save(done)
                    break
                if done % c.log_every == 0 or done == c.steps:
                    self._report(done, unreported, progress)
                    unreported = []
                with watchdog.patient():  # To write and to draw may take longer than a step.
                    if self._after_step(done, progress, stopping):
                        rollbacks = 0
                if stopping:
                    break
            self._write(self.checkpoints.wait)
        finally:
            watchdog.close()
        return done

    def _advance(self, data: Iterator, done: int) -> Figures:
        """Trains for the steps of one call; workers may be gone here, and data be damaged."""
        step = tf.constant(done)
        try:
            if self._steps_of_call(done) == 1:
                return self._step(next(data), step)
            return self._steps(data, step)
        except (tf.errors.UnavailableError, tf.errors.AbortedError, tf.errors.CancelledError) as e:
            reason = str(e).splitlines()[0][:200]
            raise TrainingError(
                f"{self.place}: step {done + 1} failed because another worker is gone ({reason}); "
                "start all workers again to go on from the newest checkpoint"
            ) from e
        except tf.errors.InvalidArgumentError as e:
            damaged = _DAMAGED_DATA.search(str(e))
            if damaged is None:
                raise
            raise TrainingError(f"the data of step {done + 1}: {damaged[1]}") from e

    def _steps_of_call(self, done: int) -> int:
        """`steps_per_call`; single steps to its next multiple where `tools/run_step.py` stopped."""
        return 1 if done % self.config.steps_per_call else self.config.steps_per_call

    def _agreed(self, wish: bool) -> bool:
        """Whether any worker wishes it: all must do the same, or they wait for each other."""
        if self.place.workers == 1:
            return wish
        return bool(self._any(tf.constant(float(wish))) > 0)

    @tf.function(autograph=False)
    def _any(self, wish: tf.Tensor) -> tf.Tensor:
        wishes = self.strategy.run(lambda: wish)
        return self.strategy.reduce(tf.distribute.ReduceOp.SUM, wishes, axis=None)

    def _is_time(self, done: int) -> bool:
        c = self.config
        every = [n for n in (c.log_every, c.checkpoint_every, c.preview_every) if n]
        return done == c.steps or any(done % n == 0 for n in every)

    def _complaint(self, health: Health, recent: list[tuple[int, Figures]]) -> str | None:
        """The first thing that is wrong with losses and gradients since the last look."""
        for step, figures in recent:
            count = self._steps_of_call(step)
            which = f"step {step + 1}" if count == 1 else f"steps {step + 1} to {step + count}"
            if self.on_nan == "skip" and float(figures["skipped"]):
                skipped = "" if count == 1 else f"{round(count * float(figures['skipped']))} of "
                print(f"{self.job.label}: {skipped}{which} skipped: not finite", flush=True)
                continue
            what, problem = "loss", health.complaint(float(figures["loss"]))
            dropped = self.config.precision == "float16"  # By the optimizer that scales the loss.
            if not (problem or dropped or math.isfinite(float(figures["gradient_norm"]))):
                what, problem = "gradient", "is not finite"
            if problem and count > 1:
                return f"the {what} of {which}, their mean, {problem}"
            if problem:
                captions = "; ".join(self.job.captions(step)[:_SHOWN]) or "unknown"
                return f"the {what} of {which} {problem}. Its batch: {captions}"
        return None

    def _handle(self, complaint: str, rollbacks: int) -> None:
        """Rolls back, or raises what happened and what to do."""
        self._write(self.checkpoints.wait)
        if self.on_nan == "rollback":
            self._agreed(False)  # No worker looks before the first of them has written.
        steps = self.checkpoints.steps()
        last = f"Last checkpoint: {f'step {steps[-1]}' if steps else 'none'}"
        if self.on_nan == "rollback" and steps and rollbacks <= _ROLLBACKS:
            restored = self.checkpoints.restore()
            print(
                f"{self.job.label}: {complaint}. Back to the weights of step {restored}, on with "
                "the data that follows",
                flush=True,
            )
            return
        rate = self.config.optimizer.learning_rate
        tried = f" after {rollbacks - 1} rollbacks" if rollbacks > 1 else ""
        other = "" if self.on_nan == "rollback" else ", or try --on_nan=rollback"
        raise TrainingError(
            f"{complaint}{tried}; lower training.optimizer.learning_rate (now {rate}){other}. "
            f"{last}"
        )

    def _report(self, done: int, unreported: list[Figures], progress: Progress) -> None:
        """Means since the last report, and the newest update's rate, which skipping holds back."""
        rate = WarmupCosine(self.config.optimizer, self.config.steps)
        newest = float(rate(max(int(self.optimizer.iterations.read_value()) - 1, 0)))
        progress.report(done, {**mean_figures(unreported), "learning_rate": newest})

    def _after_step(self, done: int, progress: Progress, stopping: bool) -> bool:
        """Saves and draws what is due; returns whether there is a new checkpoint."""
        c, last = self.config, done == self.config.steps
        saving = stopping or last or done % c.checkpoint_every == 0
        if saving:
            self._save(done)
        if c.preview_every and done % c.preview_every == 0 and not last:
            if self.place.chief:
                self._draw(done, progress)
            self._agreed(False)  # Here the other workers wait, and not in their next step.
        return saving

    def _save(self, done: int) -> None:
        if self.place.chief:
            self._write(lambda: self.checkpoints.save(done))

    def _write(self, write: Any) -> None:
        try:
            write()
        except OSError as error:
            steps = self.checkpoints.steps()
            raise TrainingError(
                f"cannot write a checkpoint to {self.workdir}: {error.strerror or error}. "
                f"Checkpoints of steps {steps} are as they were; make room and run the same "
                "command again"
            ) from error

    def _draw(self, step: int, progress: Progress) -> None:
        self.average.swap()
        progress.pictures(step, self.job.previews(self.model))
        self.average.swap()

    def _save_weights(self) -> None:
        self.average.swap()
        try:
            description = self.job.describe(self.model)
            save_weights(self.weights_path, self.model.variables, metadata=description)
        finally:
            self.average.swap()
