"""The contract between objectives and the trainer, and the randomness an objective may use."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import ClassVar, Protocol

import tensorflow as tf
import tf_keras as keras

Batch = Mapping[str, tf.Tensor]
_PHILOX = "philox"  # Named, because the automatic choice gives other numbers under XLA.
Losses = tuple[tf.Tensor, dict[str, tf.Tensor]]


@dataclasses.dataclass(frozen=True)
class Draws:
    """Random numbers of one step that do not depend on how a batch is split over replicas.

    Every replica draws for the whole batch and keeps its own rows: a run on N replicas, or with N
    micro-batches, then sees the same noise for the same example as a run on one, at the price of N
    times the drawing, which is little beside a network evaluation.

    Attributes:
      seed: int32 [2], the run's seed and the step.
      rows: examples at hand, consecutive rows of the global batch.
      first: the first of them.
      total: rows of the global batch; None when all are at hand.
    """

    seed: tf.Tensor
    rows: int
    first: tf.Tensor | int = 0
    total: int | None = None

    @property
    def split(self) -> bool:
        """Whether only a part of the global batch is at hand."""
        return self.total not in (None, self.rows)

    @property
    def _all_rows(self) -> int:
        return self.total or self.rows

    def _own(self, full: tf.Tensor) -> tf.Tensor:
        if not self.split:
            return full
        return rows_from(full, self.first, self.rows)

    def _seed(self, stream: int) -> tf.Tensor:
        return tf.random.experimental.stateless_fold_in(self.seed, stream, alg=_PHILOX)

    def normal(self, shape: Sequence[int], *, stream: int) -> tf.Tensor:
        """Standard normal, float32 [rows, *shape]. Each use in a step takes its own `stream`.

        Made from integer bits, which are the same with and without XLA; `stateless_normal` is not.
        """
        bits = tf.random.stateless_uniform(
            [self._all_rows, *shape],
            self._seed(stream),
            minval=None,
            maxval=None,
            dtype=tf.uint32,
            alg=_PHILOX,
        )
        return normal_from_bits(self._own(bits))

    def integers(self, *, high: int, stream: int) -> tf.Tensor:
        """Uniform in 0 .. high - 1, int32 [rows]."""
        full = [self._all_rows]
        drawn = tf.random.stateless_uniform(
            full, self._seed(stream), minval=0, maxval=high, dtype=tf.int32, alg=_PHILOX
        )
        return self._own(drawn)

    def coins(self, count: int, *, probability: float, stream: int) -> tf.Tensor:
        """True with a probability, bool [count]; the same for all rows of the global batch."""
        uniform = tf.random.stateless_uniform(
            [count], self._seed(stream), minval=0, maxval=2**23, dtype=tf.int32, alg=_PHILOX
        )
        return uniform < int(probability * 2**23)


def rows_from(x: tf.Tensor, first: tf.Tensor | int, rows: int) -> tf.Tensor:
    """`rows` consecutive rows of [N, ...] from `first`, in a form that XLA compiles."""
    ones = [0] * (x.shape.rank - 1)
    return tf.slice(x, [first, *ones], [rows, *x.shape[1:]])


def normal_from_bits(bits: tf.Tensor) -> tf.Tensor:
    """Standard normal numbers, float32, from uniform uint32 of the same shape; always finite."""
    # The middle of one of 2^23 equal parts of (0, 1): one bit more and the last middle would round
    # to 1 in float32, whose quantile is infinite.
    uniform = (tf.cast(tf.bitwise.right_shift(bits, 9), tf.float32) + 0.5) * 2.0**-23
    return tf.math.ndtri(uniform)


class Objective(Protocol):
    """A loss. A distiller is an objective that holds a frozen teacher.

    Attributes:
      separable: whether the loss of an example depends on that example alone, so that a batch may
        be taken in parts.
    """

    separable: ClassVar[bool]

    def __call__(self, model: keras.Model, batch: Batch, draws: Draws) -> Losses:
        """Computes the loss of each example.

        Args:
          model: the network being trained.
          batch: tensors with the examples of this replica along axis 0.
          draws: the step's randomness.

        Returns:
          The loss, float32 [rows], and further figures to report, each float32 [rows].
        """
        ...
