"""Augmentation of image batches with keras-cv's layers and our own, stateless, random numbers.

Pictures are moved and scaled a little and the gap is filled with white, the colour that transparent
art is composited on. They are never flipped: a hand that points left would be captioned "right".
"""

import dataclasses

import tensorflow as tf

from tfsnap.config import Config

_WHITE = 255.0


@dataclasses.dataclass(frozen=True)
class AugmentConfig(Config):
    """How far pictures are changed; 0 leaves them alone.

    Args:
      translation: largest shift in either direction, as a fraction of the side length.
      zoom: largest change of scale, in either direction: 0.1 draws from 0.9 to 1.1.
    """

    translation: float = 0.0
    zoom: float = 0.0

    def __post_init__(self):
        self._require(0 <= self.translation < 1, "translation", "at least 0 and below 1")
        self._require(0 <= self.zoom < 1, "zoom", "at least 0 and below 1")


class Augmenter:
    """Applies one `AugmentConfig` to batches.

    keras-cv's layers warp the pictures, but the amounts are arguments: their own generators hold a
    state that a resumed run could not restore.

    Args:
      config: what to change.

    Call args:
      images: float or uint8 [B, R, R, 3] in [0, 255].
      amounts: float [B, 3] in [-1, 1]: zoom, shift down, shift right, as fractions of the config's
        largest. A picture depends on its own row alone, whichever it is batched with.
      Returns float32 [B, R, R, 3] in [0, 255].
    """

    def __init__(self, config: AugmentConfig):
        # Imported only where pictures are augmented: keras-cv takes seconds to load.
        from keras_cv import layers

        # The type is named, because a policy of mixed precision is for networks only.
        fill = {"fill_mode": "constant", "fill_value": _WHITE, "dtype": "float32"}
        self._config = config
        self._translate = layers.RandomTranslation(0.0, 0.0, **fill)
        self._zoom = layers.RandomZoom(0.0, **fill)

    def draw(self, count: int, seed: tf.Tensor) -> tf.Tensor:
        """Amounts for `count` pictures, float32 [count, 3], from a stateless seed, int [2]."""
        return tf.random.stateless_uniform([count, 3], seed, -1.0, 1.0)

    def __call__(self, *, images: tf.Tensor, amounts: tf.Tensor) -> tf.Tensor:
        images = tf.cast(images, tf.float32)
        amounts = tf.cast(amounts, tf.float32)
        if self._config.zoom:
            zooms = 1.0 + self._config.zoom * amounts[:, :1]  # [B, 1]
            images = self._zoom.augment_images(
                images, transformations={"height_zooms": zooms, "width_zooms": zooms}
            )
        if self._config.translation:
            shifts = self._config.translation * amounts[:, 1:]  # [B, 2]
            images = self._translate.augment_images(
                images,
                transformations={
                    "height_translations": shifts[:, :1],
                    "width_translations": shifts[:, 1:],
                },
            )
        return tf.clip_by_value(images, 0.0, _WHITE)  # Interpolation rounds past the ends.
