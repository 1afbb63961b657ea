"""Training the autoencoder on pictures."""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any, ClassVar

import numpy as np
import tensorflow as tf
import tf_keras as keras

from tfsnap.config import AutoencoderConfig, Config
from tfsnap.data.examples import Examples
from tfsnap.data.shards import ShardError
from tfsnap.data.shuffle import rows_of_steps
from tfsnap.data.source import BatchSource
from tfsnap.models.autoencoder import Autoencoder, build_autoencoder
from tfsnap.objectives.autoencode import Autoencode
from tfsnap.training.config import TrainingConfig
from tfsnap.training.jobs.inputs import DataConfig
from tfsnap.training.pictures import mosaic, to_float
from tfsnap.weights.archive import describe

_SHOWN = 16  # Pictures in a preview.
_MEASURED = 1024  # Pictures that the latent's scale is measured on.
_TOGETHER = 64  # Pictures that are encoded together.


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
        found = self.data.load("train")
        self.model.check_picture(found.images.shape[1:3])
        return found

    def batches(self, start_step: int, *, part: tuple[int, int] = (0, 1)) -> tf.data.Dataset:
        """See `Job`."""
        return self.source().batches(start_step, part=part)

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

    def captions(self, step: int) -> list[str]:
        """See `Job`."""
        source = self.source()
        (rows,) = rows_of_steps(
            source.index,
            seed=source.seed,
            first_step=step,
            steps=1,
            batch_size=source.batch_size,
        )
        return [self._examples.captions[row][0] for row in rows]

    def previews(self, model: Autoencoder) -> dict[str, np.ndarray]:
        """Unseen pictures above what becomes of them; of training where there are no others."""
        try:
            images = self.data.load("validation").images[:_SHOWN]
        except ShardError:
            raise
        except ValueError:  # A small subset has none of the split.
            images = self._examples.images[:_SHOWN]
        decoded = model.predict_on_batch(to_float(images))
        return {"reconstruction": mosaic([*to_float(images), *decoded], columns=len(images))}

    def describe(self, model: Autoencoder) -> dict[str, Any]:
        """See `Job`."""
        scale = 1.0 / latent_deviation(model, self._examples.images[:_MEASURED])
        model.config = model.config.replace(scale=scale)
        return describe(model, resolution=self.data.resolution)


def latent_deviation(model: Autoencoder, images: np.ndarray) -> float:
    """Standard deviation of the latent means of uint8 images [N, H, W, 3]."""
    means = moment_encoder(model)(images)[..., : model.config.latent_channels]
    return float(np.std(means))


def moment_encoder(model: Autoencoder) -> Callable[[np.ndarray], np.ndarray]:
    """Returns a function that encodes images to means and log-variances.

    It takes uint8 or float [N, H, W, 3] in [0, 255] and gives float32 [N, h, w, 2c], means first.
    """

    @functools.partial(tf.function, reduce_retracing=True)
    def encode(images: tf.Tensor) -> tf.Tensor:
        # Whatever the encoder computes in: a deviation of numbers that are short is nonsense.
        return tf.cast(tf.concat(model.encoder(images), axis=-1), tf.float32)

    def moments(images: np.ndarray) -> np.ndarray:
        rows = range(0, len(images), _TOGETHER)
        return np.concatenate([encode(to_float(images[i : i + _TOGETHER])).numpy() for i in rows])

    return moments
