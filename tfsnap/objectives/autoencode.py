"""The autoencoder's loss: reconstruction and a little KL."""

import dataclasses
from typing import ClassVar

import tensorflow as tf
import tf_keras as keras

from tfsnap.objectives.base import Batch, Draws, Losses


@dataclasses.dataclass(frozen=True)
class Autoencode:
    """L = mean |x - x_hat| + edge_weight * mean |d x - d x_hat| + kl_weight * KL.

    d is the difference of neighbouring pixels, along both axes: an inexpensive stand-in for a
    perceptual term that rewards sharp outlines, of which flat pictures are made. KL, to the
    standard normal, is summed over the latent's channels and averaged over its cells.

    Attributes:
      kl_weight: weight of the KL term.
      edge_weight: weight of the term on differences.

    Batch: `image`, float [B, H, W, 3] in [-1, 1].

    Reference: Rombach et al. 2022 (arXiv 2112.10752), section 3.1 and appendix G.
    """

    separable: ClassVar[bool] = True

    kl_weight: float = 1e-4
    edge_weight: float = 1.0

    def __call__(self, model: keras.Model, batch: Batch, draws: Draws) -> Losses:
        """Returns the loss of each example, and `psnr` in dB, `kl` and `edge`."""
        image = batch["image"]
        mean, logvar = model.encoder(image)
        mean, logvar = tf.cast(mean, tf.float32), tf.cast(logvar, tf.float32)
        latent = mean + tf.exp(0.5 * logvar) * draws.normal(mean.shape[1:], stream=0)
        error = tf.cast(model.decoder(latent), tf.float32) - image
        squared = tf.reduce_mean(tf.square(error), axis=[1, 2, 3])
        absolute = tf.reduce_mean(tf.abs(error), axis=[1, 2, 3])
        edge = edge_error(error)
        variance = tf.exp(logvar)
        kl = 0.5 * tf.reduce_sum(tf.square(mean) + variance - 1.0 - logvar, axis=-1)
        kl = tf.reduce_mean(kl, axis=[1, 2])
        loss = absolute + self.edge_weight * edge + self.kl_weight * kl
        return loss, {"psnr": psnr_db(squared), "kl": kl, "edge": edge}


def psnr_db(squared: tf.Tensor) -> tf.Tensor:
    """Peak signal-to-noise ratio of pictures in [-1, 1], dB, from their mean squared errors."""
    # The peak-to-peak range is 2, so the peak power is 4.
    return 10.0 / tf.math.log(10.0) * tf.math.log(4.0 / tf.maximum(squared, 1e-10))


def edge_error(error: tf.Tensor) -> tf.Tensor:
    """Mean absolute difference of neighbouring errors, [B]: differences are linear in the image."""
    vertical = tf.reduce_mean(tf.abs(error[:, 1:] - error[:, :-1]), axis=[1, 2, 3])
    horizontal = tf.reduce_mean(tf.abs(error[:, :, 1:] - error[:, :, :-1]), axis=[1, 2, 3])
    return 0.5 * (vertical + horizontal)
