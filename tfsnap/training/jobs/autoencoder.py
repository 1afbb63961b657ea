"""Training the autoencoder on pictures."""

import dataclasses
import functools
from typing import Any, ClassVar

import numpy as np
import tensorflow as tf
import tf_keras as keras

from tfsnap.config import AutoencoderConfig, Config
from tfsnap.data.examples import Examples
from tfsnap.data.source import BatchSource
from tfsnap.models.autoencoder import Autoencoder, build_autoencoder
from tfsnap.objectives.autoencode import Autoencode
from tfsnap.training.config import TrainingConfig
from tfsnap.training.jobs.inputs import DataConfig
from tfsnap.training.pictures import mosaic, to_float
from tfsnap.weights.archive import describe

_SHOWN = 16  # Pictures in a preview.
_MEASURED = 1024  # Pictures that the latent's scale is measured on.


@dataclasses.dataclass(frozen=True)
class AutoencoderJob(Config):
    """Trains encoder and decoder together.

    The saved config's `scale` is measured at the end: one over the latents' standard deviation, so
    that diffusion sees unit variance, as Stable Diffusion's 0.18215 was.

    Attributes:
      model: the network.
      data: the pictures; captions are not used.
      training: length, batch and optimizer.
      kl_weight: see `Autoencode`.
      edge_weight: see `Autoencode`.
    """

    label: ClassVar[str] = "autoencoder"
    measured: ClassVar[bool] = True  # Its description needs the trained network.

    model: AutoencoderConfig = AutoencoderConfig()
    data: DataConfig = DataConfig()
    training: TrainingConfig = TrainingConfig()
    kl_weight: float = 1e-4
    edge_weight: float = 1.0

    def build(self) -> tuple[keras.Model, Autoencode]:
        """See `Job`."""
        objective = Autoencode(kl_weight=self.kl_weight, edge_weight=self.edge_weight)
        return build_autoencoder(self.model), objective

    @functools.cached_property
    def _examples(self) -> Examples:
        return self.data.load("train")

    def batches(self, start_step: int) -> tf.data.Dataset:
        """See `Job`."""
        return self.source().batches(start_step)

    def source(self) -> BatchSource:
        """The training examples and how they are drawn."""
        return BatchSource(
            tables={"image": self._examples.images},
            index=self.data.index(self._examples, self.training.seed),
            batch_size=self.training.batch_size,
            seed=self.training.seed,
            pictures=("image",),
            augment=self.data.augment,
        )

    def previews(self, model: Autoencoder) -> dict[str, np.ndarray]:
        """Unseen pictures above what becomes of them."""
        images = self.data.load("validation").images[:_SHOWN]
        decoded = model.predict_on_batch(to_float(images))
        return {"reconstruction": mosaic([*to_float(images), *decoded], columns=len(images))}

    def describe(self, model: Autoencoder) -> dict[str, Any]:
        """See `Job`."""
        scale = 1.0 / latent_deviation(model, self._examples.images[:_MEASURED])
        model.config = model.config.replace(scale=scale)
        return describe(model, resolution=self.data.resolution)


def latent_deviation(model: Autoencoder, images: np.ndarray) -> float:
    """Standard deviation of the latent means of uint8 images [N, H, W, 3]."""
    return float(np.std(encode_moments(model, images)[..., : model.config.latent_channels]))


def encode_moments(model: Autoencoder, images: np.ndarray, batch_size: int = 64) -> np.ndarray:
    """Encodes images to means and log-variances.

    Args:
      model: the autoencoder.
      images: uint8 [N, H, W, 3].
      batch_size: images per evaluation.

    Returns:
      float32 [N, h, w, 2c], means first.
    """
    encode = tf.function(lambda x: tf.concat(model.encoder(x), axis=-1), reduce_retracing=True)
    rows = range(0, len(images), batch_size)
    return np.concatenate([encode(to_float(images[i : i + batch_size])).numpy() for i in rows])
