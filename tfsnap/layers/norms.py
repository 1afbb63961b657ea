"""Group and layer normalisation in forms that GPU delegates take whole, in half precision too."""

from collections.abc import Callable
from typing import Any

import tensorflow as tf
import tf_keras as keras

# Reduces a tensor over what is normalised together, with `tf.reduce_mean` or `tf.reduce_max`; the
# result is broadcastable to the tensor.
Over = Callable[[Callable[..., tf.Tensor], tf.Tensor], tf.Tensor]


def standardised(x: tf.Tensor, *, over: Over, epsilon: float) -> tuple[tf.Tensor, tf.Tensor]:
    """Two factors of (x - mean) / sqrt(variance + epsilon) that half precision can hold.

    The square of a deviation c beyond 255 passes float16's 65,504, so deviations are divided by
    their largest, s, first, and epsilon by its square. In exact arithmetic s cancels,

        c / sqrt(mean(c^2) + epsilon) = (c/s) / sqrt(mean((c/s)^2) + epsilon / s^2),

    and so does its gradient. A constant divisor would do for large values, but would let the
    squares of small ones, and epsilon, vanish.

    Args:
      x: float, of any shape, with deviations from its mean of up to 65,504.
      over: what mean and variance are taken over.
      epsilon: added to the variance.

    Returns:
      c / s, float, the shape of `x`, and what is left to multiply it with, of the shape that `over`
      makes: small, so that other small factors may be multiplied with it first.
    """
    centred = x - over(tf.reduce_mean, x)
    floor = epsilon**0.5  # What makes epsilon / s^2 at most 1 where all values are alike.
    largest = over(tf.reduce_max, tf.abs(centred)) + floor
    inverse = 1.0 / tf.stop_gradient(largest)
    scaled = centred * inverse
    variance = over(tf.reduce_mean, tf.square(scaled))
    return scaled, tf.math.rsqrt(variance + tf.square(floor * inverse))


class GroupNorm(keras.layers.Layer):
    """Group normalisation over space and the channels of a group.

    Keras' own layer reshapes to rank 5, which GPU delegates reject. Here a channel's moments are
    taken over height and width, which every runtime is fast at, and those of a group are means of
    its channels', at rank 4 and on C numbers.

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
        scaled, factor = standardised(_wide(x), over=self._over, epsilon=self.epsilon)
        return tf.cast(scaled * (factor * _wide(self.gamma)) + _wide(self.beta), x.dtype)

    def _over(self, reduce: Callable[..., tf.Tensor], x: tf.Tensor) -> tf.Tensor:
        """Reduces space and groups, [B, 1, 1, C]: every channel has what its group has."""
        channels = x.shape[-1]
        each = channels // self.groups
        own = reduce(x, axis=[1, 2], keepdims=True)
        group = reduce(tf.reshape(own, [-1, 1, self.groups, each]), axis=3, keepdims=True)
        group *= tf.ones([1, 1, self.groups, each], x.dtype)  # Delegates refuse BROADCAST_TO.
        return tf.reshape(group, [-1, 1, 1, channels])  # [B, G, C/G] to [B, 1, 1, C]

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
        scaled, factor = standardised(_wide(x), over=_last, epsilon=self.epsilon)
        return tf.cast(scaled * factor * _wide(self.gamma) + _wide(self.beta), x.dtype)

    def get_config(self) -> dict[str, Any]:
        """Returns the constructor's arguments."""
        return {**super().get_config(), "epsilon": self.epsilon}


def _wide(x: tf.Tensor) -> tf.Tensor:
    """At least float32: TensorFlow's CPU kernels add up float16 in float16, large maps to NaN."""
    x = tf.convert_to_tensor(x)
    return x if x.dtype.size >= tf.float32.size else tf.cast(x, tf.float32)


def _last(reduce: Callable[..., tf.Tensor], x: tf.Tensor) -> tf.Tensor:
    return reduce(x, axis=-1, keepdims=True)
