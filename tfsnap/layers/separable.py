"""The residual block of small decoders."""

from typing import Any

import tensorflow as tf
import tf_keras as keras

from tfsnap.layers.biased import Conv2D, DepthwiseConv2D


class SeparableBlock(keras.layers.Layer):
    """A depthwise 3x3 convolution, then two pointwise ones around a ReLU, beside the identity.

    The second pointwise convolution starts at zero, so that a new block starts as the identity.
    There is no norm, which would read a large map twice more.

    Args:
      channels: input and output channels.
      expansion: how many times as many channels the ReLU sees.

    Call args: x, float [B, H, W, channels]. Returns the same shape.

    Reference: Hu et al. 2024 (SnapGen, arXiv 2412.09619), expanded separable convolutions; the
      order of its parts is ConvNeXt's (Liu et al. 2022, arXiv 2201.03545).
    """

    def __init__(self, channels: int, expansion: int = 2, **kwargs: Any):
        super().__init__(**kwargs)
        self.channels = channels
        self.expansion = expansion
        at = self.name
        self.depthwise = DepthwiseConv2D(3, padding="same", name=f"{at}.depthwise")
        self.expand = Conv2D(expansion * channels, 1, activation="relu", name=f"{at}.expand")
        self.project = Conv2D(channels, 1, kernel_initializer="zeros", name=f"{at}.project")

    def call(self, x: tf.Tensor) -> tf.Tensor:
        """Applies the block."""
        return x + self.project(self.expand(self.depthwise(x)))

    def get_config(self) -> dict[str, Any]:
        """Returns the constructor's arguments."""
        own = {"channels": self.channels, "expansion": self.expansion}
        return {**super().get_config(), **own}
