"""The denoising loss of latent diffusion."""

import dataclasses
from collections.abc import Sequence
from typing import ClassVar

import tensorflow as tf
import tf_keras as keras

from tfsnap.diffusion.process import add_noise, velocity
from tfsnap.diffusion.schedule import NoiseSchedule
from tfsnap.objectives.base import Batch, Draws, Losses


@dataclasses.dataclass(frozen=True)
class Denoise:
    """L = || f(z_t, t, c) - target ||^2 with target eps or v, averaged over the latent.

    Attributes:
      text_encoder: frozen; tokens [B, T] to context [B, T, C]. None if batches hold the context.
      schedule: the noise schedule.
      prediction: "epsilon" (SnapFusion eq. 1) or "v" (SnapFusion eq. 3, L_ori).
      scale: the latent's scale factor; scaled latents have about unit variance.

    Batch: `moments`, float [B, h, w, 2c], mean and log-variance of the latent; `context`, float
    [B, T, C], or, to be encoded, `tokens`, int32 [B, T].
    """

    separable: ClassVar[bool] = True

    text_encoder: keras.Model | None
    schedule: NoiseSchedule
    prediction: str
    scale: float

    def __post_init__(self) -> None:
        if self.prediction not in ("epsilon", "v"):
            raise ValueError(f"prediction is {self.prediction!r}; it must be epsilon or v")

    def __call__(self, model: keras.Model, batch: Batch, draws: Draws) -> Losses:
        """Returns the loss of each example, and the same value under the name `mse`."""
        x = self.latent(batch, draws, stream=0)
        eps = draws.normal(x.shape[1:], stream=1)
        t = draws.integers(high=self.schedule.steps, stream=2)
        alpha, sigma = self.amplitudes(t)
        z_t = add_noise(x=x, eps=eps, alpha=alpha, sigma=sigma)
        output = tf.cast(model(z_t, timesteps=t, context=self.context(batch)), tf.float32)
        target = eps
        if self.prediction == "v":
            target = velocity(x=x, eps=eps, alpha=alpha, sigma=sigma)
        loss = tf.reduce_mean(tf.square(output - target), axis=[1, 2, 3])
        return loss, {"mse": loss}

    def latent(self, batch: Batch, draws: Draws, *, stream: int) -> tf.Tensor:
        """A draw of the scaled latent of each example, float32 [B, h, w, c]."""
        mean, logvar = tf.split(tf.cast(batch["moments"], tf.float32), 2, axis=-1)
        noise = draws.normal(mean.shape[1:], stream=stream)
        return (mean + tf.exp(0.5 * logvar) * noise) * self.scale

    def context(self, batch: Batch) -> tf.Tensor:
        """What captions mean to the UNet, float [B, T, C]; constant."""
        if "context" in batch:
            return tf.cast(batch["context"], tf.float32)  # Stored in half precision.
        return tf.stop_gradient(self.text_encoder(batch["tokens"]))

    def amplitudes(self, t: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """alpha_t and sigma_t, each float32 [B, 1, 1, 1], of int32 steps [B]."""
        every = range(self.schedule.steps)
        return looked_up(self.schedule.alpha(every), t), looked_up(self.schedule.sigma(every), t)


def looked_up(table: Sequence[float], rows: tf.Tensor) -> tf.Tensor:
    """Values of a table for each example, float32 [B, 1, 1, 1], of int32 rows [B]."""
    return tf.reshape(tf.gather(tf.constant(table, tf.float32), rows), [-1, 1, 1, 1])
