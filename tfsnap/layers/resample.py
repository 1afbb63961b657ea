"""Halving and doubling of resolution."""

from typing import Any

import tensorflow as tf
import tf_keras as keras

from tfsnap.layers.biased import Conv2D


@tf.custom_gradient
def upsample_nearest(x: tf.Tensor) -> tuple[tf.Tensor, Any]:
    """Doubles height and width by repeating pixels.

    The forward pass is RESIZE_NEAREST_NEIGHBOR, which every delegate has. TensorFlow's gradient of
    it has no XLA kernel, so the gradient is written here: each pixel collects its four copies.

    Args:
      x: float [B, H, W, C] with static H, W.

    Returns:
      float [B, 2H, 2W, C].
    """
    _, height, width, _ = x.shape

    def gradient(dy: tf.Tensor) -> tf.Tensor:
        return 4.0 * tf.nn.avg_pool2d(dy, ksize=2, strides=2, padding="VALID")

    size = [2 * height, 2 * width]
    return tf.image.resize(x, size, method="nearest"), gradient


class Upsample(keras.layers.Layer):
    """Nearest-neighbour doubling, then a 3x3 convolution.

    Args:
      channels: output channels.

    Call args:
      x: float [B, H, W, C].
      size: height and width of the result, at most 2H and 2W, where halving rounded up on the way
        down; None is both doubled.
      Returns float [B, *size, channels].
    """

    def __init__(self, channels: int, **kwargs: Any):
        super().__init__(**kwargs)
        self.channels = channels
        self.conv = Conv2D(channels, 3, padding="same", name=f"{self.name}.conv")

    def call(self, x: tf.Tensor, *, size: tuple[int, int] | None = None) -> tf.Tensor:
        """Doubles the resolution of `x`."""
        x = upsample_nearest(x)
        if size is not None and size != (x.shape[1], x.shape[2]):
            x = x[:, : size[0], : size[1]]
        return self.conv(x)

    def get_config(self) -> dict[str, Any]:
        """Returns the constructor's arguments."""
        return {**super().get_config(), "channels": self.channels}


class Downsample(keras.layers.Layer):
    """A 3x3 convolution of stride 2.

    Args:
      channels: output channels.
      symmetric: pad one pixel on every side, as Stable Diffusion's UNet does; otherwise only below
        and to the right, as its autoencoder does.

    Call args: x, float [B, H, W, C]. Returns float [B, H/2, W/2, channels]; odd sides are rounded
      up if symmetric, else down.
    """

    def __init__(self, channels: int, symmetric: bool, **kwargs: Any):
        super().__init__(**kwargs)
        self.channels = channels
        self.symmetric = symmetric
        self.conv = Conv2D(channels, 3, strides=2, name=f"{self.name}.conv")

    def call(self, x: tf.Tensor) -> tf.Tensor:
        """Halves the resolution of `x`."""
        before = 1 if self.symmetric else 0
        return self.conv(tf.pad(x, [[0, 0], [before, 1], [before, 1], [0, 0]]))

    def get_config(self) -> dict[str, Any]:
        """Returns the constructor's arguments."""
        return {**super().get_config(), "channels": self.channels, "symmetric": self.symmetric}
