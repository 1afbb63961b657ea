"""The residual block of the UNet and of the autoencoder."""

from typing import Any

import tensorflow as tf
import tf_keras as keras

from tfsnap.layers.biased import Conv2D, Dense
from tfsnap.layers.norms import GroupNorm


class ResNetBlock(keras.layers.Layer):
    """Norm, SiLU, 3x3 convolution, twice, with a residual connection.

    The second convolution starts at zero, so that a new block starts as its shortcut. The shortcut
    is the identity, or a 1x1 convolution where the number of channels changes.

    Args:
      channels: output channels.
      groups: groups of both norms.
      epsilon: epsilon of both norms.

    Call args:
      x: float [B, H, W, C].
      time: float [B, 1, E], the time embedding, or None (the autoencoder has none).
      Returns float [B, H, W, channels].

    Reference: Rombach et al. 2022 (arXiv 2112.10752); Stable Diffusion's `ResnetBlock2D`.
    """

    def __init__(self, channels: int, groups: int = 32, epsilon: float = 1e-5, **kwargs: Any):
        super().__init__(**kwargs)
        self.channels = channels
        self.groups = groups
        self.epsilon = epsilon
        at = self.name
        self.norm1 = GroupNorm(groups, epsilon, name=f"{at}.norm1")
        self.conv1 = Conv2D(channels, 3, padding="same", name=f"{at}.conv1")
        self.norm2 = GroupNorm(groups, epsilon, name=f"{at}.norm2")
        self.conv2 = Conv2D(
            channels, 3, padding="same", kernel_initializer="zeros", name=f"{at}.conv2"
        )
        # Made only when a time embedding, or a change of channels, asks for them.
        self.time = Dense(channels, name=f"{at}.time")
        self.shortcut = Conv2D(channels, 1, name=f"{at}.shortcut")

    def call(self, x: tf.Tensor, *, time: tf.Tensor | None = None) -> tf.Tensor:
        """Applies the block."""
        h = self.conv1(tf.nn.silu(self.norm1(x)))
        if time is not None:
            shift = self.time(tf.nn.silu(time))
            h += tf.reshape(shift, [-1, 1, 1, self.channels])  # [B, 1, 1, C]
        h = self.conv2(tf.nn.silu(self.norm2(h)))
        return h + self.bypass(x)

    def bypass(self, x: tf.Tensor) -> tf.Tensor:
        """What is left of the block without its residual branch."""
        return x if x.shape[-1] == self.channels else self.shortcut(x)

    def get_config(self) -> dict[str, Any]:
        """Returns the constructor's arguments."""
        own = {"channels": self.channels, "groups": self.groups, "epsilon": self.epsilon}
        return {**super().get_config(), **own}
