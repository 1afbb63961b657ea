"""One update of the weights from one global batch."""

from collections.abc import Callable, Sequence
from typing import Any

import tensorflow as tf
import tf_keras as keras

from tfsnap.objectives.base import Batch, Draws, Objective, rows_from
from tfsnap.training.config import TrainingConfig
from tfsnap.training.optimizer import WeightAverage

Figures = dict[str, tf.Tensor]


class TrainStep:
    """Gradients, summed over micro-batches and replicas, then AdamW, then the average.

    The gradients of a micro-batch are one function, which XLA compiles when the config says so; the
    optimizer's update stays outside, so that compiling works with replicas and takes half as long.

    Args:
      model: the network.
      objective: what is minimised.
      optimizer: a Keras optimizer, built.
      average: the average of the weights.
      config: batch size, micro-batches, seed, compilation.
      skip_nan: leave weights and optimizer as they are where the loss or a gradient is not finite.

    Raises:
      ValueError: the objective compares the rows of a batch, which micro-batches would not allow.
    """

    def __init__(
        self,
        *,
        model: keras.Model,
        objective: Objective,
        optimizer: keras.optimizers.Optimizer,
        average: WeightAverage,
        config: TrainingConfig,
        skip_nan: bool = False,
    ):
        if config.accumulate > 1 and not objective.separable:
            raise ValueError(
                f"training.accumulate is {config.accumulate}, but this objective compares all rows "
                "of a batch with each other: it must be 1"
            )
        self._model = model
        self._objective = objective
        self._optimizer = optimizer
        self._average = average
        self._config = config
        self._skip_nan = skip_nan
        self._scaled = isinstance(optimizer, keras.mixed_precision.LossScaleOptimizer)
        # Replicas exchange rows inside an inseparable objective, which a function cannot contain.
        self._gradients: Callable[..., Any] = self._compute_gradients
        if config.jit_compile:
            self._gradients = tf.function(
                self._compute_gradients, jit_compile=True, autograph=False
            )

    def __call__(self, strategy: tf.distribute.Strategy, batch: Batch, step: tf.Tensor) -> Figures:
        """Trains on a batch, to be traced by a `tf.function`.

        Args:
          strategy: whose replicas share the work.
          batch: the examples, as the strategy distributes them.
          step: int32 scalar, from 0.

        Returns:
          The mean loss and metrics over the global batch, and the norm of its gradient.
        """
        if not self._skip_nan:
            figures = strategy.run(self._update, args=(batch, step))
            return _summed(strategy, figures)
        figures, gradients = strategy.run(self._all_gradients, args=(batch, step))
        figures = _summed(strategy, figures)
        finite = tf.math.is_finite(figures["loss"])
        fits = finite & tf.math.is_finite(figures["gradient_norm"])
        # What overflows in float16 is the optimizer's to drop: it then scales the loss down.
        applied = finite if self._scaled else fits

        def apply() -> tf.Tensor:
            strategy.run(self._apply, args=(gradients, step))
            return tf.constant(0)

        tf.cond(applied, apply, lambda: tf.constant(0))
        return {**figures, "skipped": 1.0 - tf.cast(fits, tf.float32)}

    def _update(self, batch: Batch, step: tf.Tensor) -> Figures:
        figures, gradients = self._all_gradients(batch, step)
        self._apply(gradients, step)
        return figures

    def _apply(self, gradients: Sequence[tf.Tensor], step: tf.Tensor) -> None:
        pairs = zip(gradients, self._model.trainable_variables, strict=True)
        self._optimizer.apply_gradients(pairs, skip_gradients_aggregation=True)
        self._average.update(step)

    def _all_gradients(self, batch: Batch, step: tf.Tensor) -> tuple[Figures, list[tf.Tensor]]:
        """This replica's share of the figures, and the gradients of the global batch."""
        figures, gradients = self._own_gradients(batch, step)
        context = tf.distribute.get_replica_context()
        gradients = context.all_reduce(tf.distribute.ReduceOp.SUM, gradients)
        if self._scaled:
            gradients = self._optimizer.get_unscaled_gradients(gradients)
        norm = tf.linalg.global_norm(gradients) / context.num_replicas_in_sync
        return {**figures, "gradient_norm": norm}, gradients

    def _own_gradients(self, batch: Batch, step: tf.Tensor) -> tuple[Figures, list[tf.Tensor]]:
        """Sums over the micro-batches of this replica, one after another."""
        context = tf.distribute.get_replica_context()
        parts = self._config.accumulate
        rows = self._config.batch_size // context.num_replicas_in_sync // parts
        first = context.replica_id_in_sync_group * rows * parts
        if parts == 1:
            return self._gradients(batch, step, tf.convert_to_tensor(first), rows)

        def micro(part: tf.Tensor) -> tuple[Figures, list[tf.Tensor]]:
            start = part * rows
            own = {name: rows_from(value, start, rows) for name, value in batch.items()}
            return self._gradients(own, step, first + start, rows)

        def add(part: tf.Tensor, sums: Any) -> tuple[tf.Tensor, Any]:
            return part + 1, tf.nest.map_structure(tf.add, sums, _dense(micro(part)))

        start = (tf.constant(1), _dense(micro(tf.constant(0))))
        _, sums = tf.while_loop(
            lambda part, _: part < parts,
            add,
            start,
            maximum_iterations=parts - 1,
            parallel_iterations=1,  # Several at once would need the memory that this is to save.
        )
        return sums

    def _compute_gradients(
        self, batch: Batch, step: tf.Tensor, first: tf.Tensor, rows: int
    ) -> tuple[Figures, list[tf.Tensor]]:
        """Sums over these rows, `first` and after, each divided by the size of the global batch."""
        size = self._config.batch_size
        seed = tf.stack([self._config.seed, tf.cast(step, tf.int32)])
        draws = Draws(seed=seed, rows=rows, first=first, total=size)
        with tf.GradientTape() as tape:
            loss, metrics = self._objective(self._model, batch, draws)
            # Gradients are summed over replicas, so each contributes its share of the global mean.
            mean = tf.reduce_sum(loss) / size
            target = self._optimizer.get_scaled_loss(mean) if self._scaled else mean
        shares = {name: tf.reduce_sum(m) / size for name, m in metrics.items()}
        return {"loss": mean, **shares}, tape.gradient(target, self._model.trainable_variables)


def _dense(sums: Any) -> Any:
    """Sparse gradients of embedding tables as tensors, so that they can be added."""
    return tf.nest.map_structure(tf.convert_to_tensor, sums)


def _summed(strategy: tf.distribute.Strategy, figures: Figures) -> Figures:
    return {
        name: strategy.reduce(tf.distribute.ReduceOp.SUM, value, axis=None)
        for name, value in figures.items()
    }
