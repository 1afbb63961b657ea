"""Group and layer normalisation in forms that GPU delegates take whole, in half precision too."""

from typing import Any

import tensorflow as tf
import tf_keras as keras


def standardised(x: tf.Tensor, *, axes: list[int], epsilon: float) -> tf.Tensor:
    """Returns (x - mean) / sqrt(variance + epsilon), with no value that half precision cannot hold.

    The square of a deviation beyond 255 passes float16's 65,504, so deviations are divided by their
    largest first, and epsilon by its square. In exact arithmetic the divisor s cancels,

        c / sqrt(mean(c^2) + epsilon) = (c/s) / sqrt(mean((c/s)^2) + epsilon / s^2),

    and so does its gradient. A constant divisor would do for large values, but would let the
    squares of small ones, and epsilon, vanish.

    Args:
      x: float, of any shape, with deviations from its mean of up to 65,504.
      axes: what mean and variance are taken over.
      epsilon: added to the variance.

    Returns:
      float, the shape of `x`.
    """
    centred = x - tf.reduce_mean(x, axis=axes, keepdims=True)
    floor = epsilon**0.5  # What makes epsilon / s^2 at most 1 where all values are alike.
    largest = tf.reduce_max(tf.abs(centred), axis=axes, keepdims=True) + floor
    inverse = 1.0 / tf.stop_gradient(largest)
    scaled = centred * inverse
    variance = tf.reduce_mean(tf.square(scaled), axis=axes, keepdims=True)
    return scaled * tf.math.rsqrt(variance + tf.square(floor * inverse))


class GroupNorm(keras.layers.Layer):
    """Group normalisation over space and the channels of a group.

    Keras' own layer reshapes to rank 5, which GPU delegates reject; here the groups are split at
    rank 4 as [B, H*W, G, C/G] with moments over axes 1 and 3.

    Args:
      groups: number of groups; must divide the channels.
      epsilon: added to the variance. Stable Diffusion uses 1e-5 in the UNet's ResNets and 1e-6 in
        its transformers and in the autoencoder.

    Call args: x, float [B, H, W, C] with static H, W, C. Returns the same shape.

    Reference: Wu & He 2018 (arXiv 1803.08494).
    """

    def __init__(self, groups: int = 32, epsilon: float = 1e-5, **kwargs: Any):
        super().__init__(**kwargs)
        self.groups = groups
        self.epsilon = epsilon

    def build(self, input_shape: tf.TensorShape) -> None:
        """Creates gamma and beta, [C]."""
        channels = input_shape[-1]
        if channels % self.groups:
            raise ValueError(
                f"{self.name}: {channels} channels do not split in {self.groups} groups"
            )
        self.gamma = self.add_weight("gamma", [channels], initializer="ones")
        self.beta = self.add_weight("beta", [channels], initializer="zeros")
        super().build(input_shape)

    def call(self, x: tf.Tensor) -> tf.Tensor:
        """Normalises `x`."""
        _, height, width, channels = x.shape
        grouped = [-1, height * width, self.groups, channels // self.groups]
        g = tf.reshape(x, grouped)  # [B, H*W, G, C/G]
        normal = standardised(g, axes=[1, 3], epsilon=self.epsilon)
        y = tf.reshape(normal, [-1, height, width, channels])  # [B, H, W, C]
        return y * self.gamma + self.beta

    def get_config(self) -> dict[str, Any]:
        """Returns the constructor's arguments."""
        return {**super().get_config(), "groups": self.groups, "epsilon": self.epsilon}


class LayerNorm(keras.layers.Layer):
    """Layer normalisation over the last axis, as plain arithmetic.

    Keras' own layer calls the fused batch-norm kernel, which converts to fills and broadcasts.

    Args:
      epsilon: added to the variance.

    Call args: x, float [..., C]. Returns the same shape.
    """

    def __init__(self, epsilon: float = 1e-5, **kwargs: Any):
        super().__init__(**kwargs)
        self.epsilon = epsilon

    def build(self, input_shape: tf.TensorShape) -> None:
        """Creates gamma and beta, [C]."""
        self.gamma = self.add_weight("gamma", [input_shape[-1]], initializer="ones")
        self.beta = self.add_weight("beta", [input_shape[-1]], initializer="zeros")
        super().build(input_shape)

    def call(self, x: tf.Tensor) -> tf.Tensor:
        """Normalises `x`."""
        return standardised(x, axes=[-1], epsilon=self.epsilon) * self.gamma + self.beta

    def get_config(self) -> dict[str, Any]:
        """Returns the constructor's arguments."""
        return {**super().get_config(), "epsilon": self.epsilon}
