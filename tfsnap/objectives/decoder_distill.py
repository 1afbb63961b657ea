"""The loss of a small decoder that learns from a large one."""

import dataclasses
from typing import ClassVar

import tensorflow as tf
import tf_keras as keras

from tfsnap.objectives.autoencode import edge_error, psnr_db
from tfsnap.objectives.base import Batch, Draws, Losses


@dataclasses.dataclass(frozen=True)
class DecoderDistill:
    """L = mean (D(z) - D_teacher(z))^2 + edge_weight * mean |d D(z) - d D_teacher(z)|.

    d is the difference of neighbouring pixels, as in `Autoencode`: a stand-in for a perceptual
    term. The paper has none: `edge_weight` is 0.

    Attributes:
      teacher: the frozen decoder.
      edge_weight: weight of the term on differences.

    Batch: `latent`, float [B, h, w, c], not scaled: what decoders read.

    Reference: SnapFusion, section 3.2.
    """

    separable: ClassVar[bool] = True

    teacher: keras.layers.Layer
    edge_weight: float = 0.0

    def __call__(self, model: keras.Model, batch: Batch, draws: Draws) -> Losses:
        """Returns the loss of each example, and `psnr` against the teacher in dB."""
        del draws
        latent = tf.cast(batch["latent"], tf.float32)
        target = tf.stop_gradient(tf.cast(self.teacher(latent), tf.float32))
        error = tf.cast(model.decoder(latent), tf.float32) - target
        squared = tf.reduce_mean(tf.square(error), axis=[1, 2, 3])
        loss = squared
        if self.edge_weight:
            loss = loss + self.edge_weight * edge_error(error)
        return loss, {"psnr": psnr_db(squared)}
