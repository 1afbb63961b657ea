"""The training loop."""

import json
import math
import os
import pathlib
from collections.abc import Mapping
from typing import Any, Protocol

import numpy as np
import tensorflow as tf
import tf_keras as keras

from tfsnap.objectives.base import Batch, Draws, Objective
from tfsnap.training.checkpoint import Checkpoints
from tfsnap.training.config import TrainingConfig
from tfsnap.training.optimizer import (
    WarmupCosine,
    WeightAverage,
    build_optimizer,
    optimizer_state,
)
from tfsnap.training.progress import Progress
from tfsnap.weights.store import addressed, save_weights

WEIGHTS = "weights.safetensors"  # The averaged weights of a finished run, in its workdir.


class TrainingError(RuntimeError):
    """Training cannot go on; the message says why and what to do."""


class Job(Protocol):
    """Something to train: a network, its objective and its data. See `tfsnap.training.jobs`."""

    label: str
    training: TrainingConfig

    def build(self) -> tuple[keras.Model, Objective]:
        """Makes the network and its objective; called once, under the strategy's scope."""
        ...

    def batches(self, start_step: int) -> tf.data.Dataset:
        """An endless data set of global batches whose first element is that of `start_step`."""
        ...

    def previews(self, model: keras.Model) -> dict[str, np.ndarray]:
        """Pictures of what the network does now: uint8 [H, W, 3] by name."""
        ...

    def describe(self, model: keras.Model) -> dict[str, Any]:
        """Metadata stored with the weights, enough to build the network again."""
        ...


class Trainer:
    """Trains a job in a workdir; running the same job again goes on where it stopped.

    The workdir gets `checkpoints/` (the whole state), `tensorboard/`, and at the end
    `weights.safetensors`: the averaged weights with a description of the network.

    Args:
      job: what to train.
      workdir: folder of the run.
      strategy: where to train.

    Example:
      >>> Trainer(job, workdir=pathlib.Path("runs/clip"), strategy=make_strategy("one")).fit()
    """

    def __init__(self, job: Job, *, workdir: pathlib.Path, strategy: tf.distribute.Strategy):
        self.job = job
        self.config = job.training
        self.workdir = workdir
        self.strategy = strategy
        replicas = strategy.num_replicas_in_sync
        if self.config.batch_size % replicas:
            raise TrainingError(
                f"batch_size is {self.config.batch_size}; with {replicas} replicas it must be a "
                f"multiple of {replicas}"
            )
        keras.utils.set_random_seed(self.config.seed)
        with strategy.scope():
            self.model, self.objective = job.build()
            variables = self.model.trainable_variables
            self.optimizer = build_optimizer(
                self.config.optimizer, steps=self.config.steps, variables=variables
            )
            self.average = WeightAverage(variables, self.config.optimizer.ema_decay)
        self.checkpoints = Checkpoints(
            workdir / "checkpoints", self.state, self.config.keep_checkpoints
        )
        self._step = tf.function(self.global_step, jit_compile=self.config.jit_compile)

    def fit(self) -> pathlib.Path:
        """Trains to the last step and writes the averaged weights.

        Returns:
          The path of the weight file.

        Raises:
          TrainingError: the loss is no longer finite.
        """
        done = self.checkpoints.restore()
        if done >= self.config.steps and self.weights_path.is_file():
            print(f"{self.job.label}: already trained, {self.weights_path}")
            return self.weights_path
        progress = Progress(
            self.job.label,
            self.workdir / "tensorboard",
            start=done,
            steps=self.config.steps,
            batch_size=self.config.batch_size,
        )
        if done < self.config.steps:  # Not for a run that only lacks its weights: data may be slow.
            data = iter(self.strategy.experimental_distribute_dataset(self.job.batches(done)))
        for step in range(done, self.config.steps):
            figures = self._step(next(data), tf.constant(step))
            self._after_step(step + 1, figures, progress)
        self._draw(self.config.steps, progress)
        self._save_weights()
        progress.close()
        return self.weights_path

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

    def train_step(self, batch: Batch, step: int) -> dict[str, tf.Tensor]:
        """Runs one step on a global batch, for tests and for timing.

        Returns:
          The mean loss and metrics over the global batch.
        """
        data = tf.data.Dataset.from_tensors(batch)
        return self._step(
            next(iter(self.strategy.experimental_distribute_dataset(data))), tf.constant(step)
        )

    def global_step(self, batch: Batch, step: tf.Tensor) -> dict[str, tf.Tensor]:
        """The step itself, to be traced by a `tf.function`: what every step of `fit` does.

        Args:
          batch: the examples, as the strategy distributes them.
          step: int32 scalar, from 0.

        Returns:
          The mean loss and metrics over the global batch.
        """
        figures = self.strategy.run(self._replica_step, args=(batch, step))
        return {
            name: self.strategy.reduce(tf.distribute.ReduceOp.SUM, value, axis=None)
            for name, value in figures.items()
        }

    def _replica_step(self, batch: Batch, step: tf.Tensor) -> dict[str, tf.Tensor]:
        context = tf.distribute.get_replica_context()
        draws = Draws(
            seed=tf.stack([self.config.seed, tf.cast(step, tf.int32)]),
            rows=self.config.batch_size // context.num_replicas_in_sync,
            replica=context.replica_id_in_sync_group,
            replicas=context.num_replicas_in_sync,
        )
        with tf.GradientTape() as tape:
            loss, metrics = self.objective(self.model, batch, draws)
            # Gradients are summed over replicas, so each contributes its share of the global mean.
            mean = tf.reduce_sum(loss) / self.config.batch_size
        variables = self.model.trainable_variables
        self.optimizer.apply_gradients(zip(tape.gradient(mean, variables), variables, strict=True))
        self.average.update(step)
        shares = {name: tf.reduce_sum(m) / self.config.batch_size for name, m in metrics.items()}
        return {"loss": mean, **shares}

    def _after_step(self, done: int, figures: Mapping[str, tf.Tensor], progress: Progress) -> None:
        c, last = self.config, done == self.config.steps
        if done % c.log_every == 0 or last:
            values = {name: float(value) for name, value in figures.items()}
            if not math.isfinite(values["loss"]):
                steps = self.checkpoints.steps()
                raise TrainingError(
                    f"the loss of step {done} is {values['loss']}; lower "
                    f"training.optimizer.learning_rate (now {c.optimizer.learning_rate}). "
                    f"Last checkpoint: {f'step {steps[-1]}' if steps else 'none'}"
                )
            rate = WarmupCosine(c.optimizer, c.steps)(done - 1)
            progress.report(done, {**values, "learning_rate": float(rate)})
        if done % c.checkpoint_every == 0 or last:
            self.checkpoints.save(done)
        if c.preview_every and done % c.preview_every == 0 and not last:
            self._draw(done, progress)

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


def save_config(workdir: pathlib.Path, config: Mapping[str, Any]) -> None:
    """Writes the resolved config as `config.json`, or checks that it is the one of this workdir.

    Raises:
      TrainingError: the workdir was started with another config; the message names the fields.
    """
    workdir.mkdir(parents=True, exist_ok=True)
    path = workdir / "config.json"
    if path.is_file():
        changed = _changes(json.loads(path.read_text()), dict(config))
        if changed:
            raise TrainingError(
                f"{workdir} was started with another config: {'; '.join(changed)}. "
                "Use another --workdir, or the same config"
            )
        return
    temporary = path.with_suffix(".tmp")
    temporary.write_text(json.dumps(config, indent=2) + "\n")
    os.replace(temporary, path)


def _changes(old: Any, new: Any, at: str = "") -> list[str]:
    """Lists the leaves in which two JSON values differ, as `a.b was 1, is 2`."""
    if isinstance(old, dict) and isinstance(new, dict):
        return [
            line
            for key in sorted(old.keys() | new.keys())
            for line in _changes(old.get(key), new.get(key), f"{at}.{key}" if at else key)
        ]
    if json.dumps(old) == json.dumps(new):
        return []
    return [f"{at} was {json.dumps(old)}, is {json.dumps(new)}"]
