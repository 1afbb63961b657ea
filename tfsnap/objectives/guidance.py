"""Guidance while a student learns from its teacher: how either is evaluated, and at which scale."""

import dataclasses
from typing import Protocol

import tensorflow as tf
import tf_keras as keras

from tfsnap.diffusion.guidance import guide
from tfsnap.objectives.base import Draws

_RESOLUTION = 2**23  # Of a scale that is drawn: all that float32 tells apart.


class Evaluation(Protocol):
    """A network's output where a scale of guidance is wanted."""

    def __call__(
        self,
        network: keras.Model,
        z: tf.Tensor,
        t: tf.Tensor,
        context: tf.Tensor,
        scale: tf.Tensor | None,
    ) -> tf.Tensor:
        """Evaluates a network.

        Args:
          network: a UNet.
          z: float [B, h, w, c].
          t: float [B], training steps.
          context: of the captions, float [B, T, C].
          scale: float [B]; None where none is wanted.

        Returns:
          float32 of z's shape.
        """
        ...


def once(
    network: keras.Model,
    z: tf.Tensor,
    t: tf.Tensor,
    context: tf.Tensor,
    scale: tf.Tensor | None = None,
) -> tf.Tensor:
    """Whatever the scale: v(c) of a plain network, or one that learns what guidance does."""
    del scale
    return tf.cast(network(z, timesteps=t, context=context), tf.float32)


def told(
    network: keras.Model, z: tf.Tensor, t: tf.Tensor, context: tf.Tensor, scale: tf.Tensor
) -> tf.Tensor:
    """v(c, w) of a network that reads the scale (Meng et al. 2023, arXiv 2210.03142)."""
    return tf.cast(network(z, timesteps=t, context=context, guidance=scale), tf.float32)


@dataclasses.dataclass(frozen=True)
class Twice:
    """w v(c) - (w - 1) v(null), both evaluations one batch (SnapFusion eq. 10).

    Attributes:
      null_context: text embedding of the empty prompt, float [T, C].
    """

    null_context: tf.Tensor

    def __call__(
        self,
        network: keras.Model,
        z: tf.Tensor,
        t: tf.Tensor,
        context: tf.Tensor,
        scale: tf.Tensor,
    ) -> tf.Tensor:
        """See `Evaluation`."""
        # Embeddings are of the precision that the text encoder computes in.
        null = tf.broadcast_to(tf.cast(self.null_context, context.dtype), tf.shape(context))
        both = once(network, *(tf.concat(pair, 0) for pair in ((z, z), (t, t), (context, null))))
        conditional, unconditional = tf.split(both, 2)
        scale = tf.reshape(scale, [-1, 1, 1, 1])  # [B, 1, 1, 1]
        return guide(conditional=conditional, unconditional=unconditional, scale=scale)


@dataclasses.dataclass(frozen=True)
class CfgAware:
    """Guidance in the loss (SnapFusion eq. 10), with a scale for each example.

    Attributes:
      low: least guidance scale.
      high: largest guidance scale.
      teacher: how the teacher is evaluated.
      student: the same of the student. `once` bakes guidance in: the student learns what guidance
        does, and then costs one evaluation a step.
      probability: of a step to be with guidance; the others are vanilla.
    """

    low: float
    high: float
    teacher: Evaluation
    student: Evaluation
    probability: float = 1.0

    @property
    def baked(self) -> bool:
        """Whether the student has no other way to guidance."""
        return self.student is once

    def scale(self, draws: Draws, *, stream: int) -> tf.Tensor:
        """Uniform in [low, high], float32 [rows]."""
        drawn = tf.cast(draws.integers(high=_RESOLUTION, stream=stream), tf.float32)
        return self.low + (self.high - self.low) * (drawn + 0.5) / _RESOLUTION
