"""Linear layers and convolutions whose biases have their whole gradient in half precision too.

TensorFlow's CPU kernel of a bias' gradient adds up bfloat16 in bfloat16: a sum over batch and
places stops growing at some 256 times a term, and most of it is lost. Here it is added up in
float32.
"""

from collections.abc import Callable
from typing import Any

import tensorflow as tf
import tf_keras as keras


@tf.custom_gradient
def _add_to_half(x: tf.Tensor, bias: tf.Tensor) -> tuple[tf.Tensor, Callable[..., Any]]:
    def gradient(dy: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        rows = tf.reshape(dy, [-1, dy.shape[-1]])  # [B*H*W, C]
        # A product adds up in float32; a sum of what is cast to it takes three times as long.
        return dy, tf.matmul(tf.ones([1, tf.shape(rows)[0]], dy.dtype), rows)[0]

    return tf.nn.bias_add(x, bias), gradient


def add_bias(x: tf.Tensor, bias: tf.Tensor) -> tf.Tensor:
    """x + bias over the last axis; the gradient of the bias is never added up in half precision.

    Args:
      x: float [..., C].
      bias: of the same type, [C].

    Returns:
      float [..., C].
    """
    if x.dtype.size < tf.float32.size:
        return _add_to_half(x, tf.convert_to_tensor(bias))
    return tf.nn.bias_add(x, bias)


class _Biased(keras.layers.Layer):
    """Gives a Keras layer, made without, its bias and activation. Its weights are named as ever."""

    def __init__(self, *args: Any, use_bias: bool = True, activation: Any = None, **kwargs: Any):
        super().__init__(*args, use_bias=False, **kwargs)
        self._biased = use_bias
        self._activation = keras.activations.get(activation)

    def build(self, input_shape: tf.TensorShape) -> None:
        """Creates kernel and bias."""
        super().build(input_shape)
        if self._biased:
            features = self.compute_output_shape(input_shape)[-1]
            self.bias = self.add_weight("bias", [features], initializer=self.bias_initializer)

    def call(self, x: tf.Tensor) -> tf.Tensor:
        """Applies the layer."""
        y = super().call(x)
        return self._activation(add_bias(y, self.bias) if self._biased else y)

    def get_config(self) -> dict[str, Any]:
        """Returns the constructor's arguments."""
        activation = keras.activations.serialize(self._activation)
        return {**super().get_config(), "use_bias": self._biased, "activation": activation}


class Dense(_Biased, keras.layers.Dense):
    """Keras' layer, with the gradient of its bias added up in float32.

    Args, the activation by keyword: those of `keras.layers.Dense`.
    """


class Conv2D(_Biased, keras.layers.Conv2D):
    """As `Dense`, of `keras.layers.Conv2D`."""


class DepthwiseConv2D(_Biased, keras.layers.DepthwiseConv2D):
    """As `Dense`, of `keras.layers.DepthwiseConv2D`."""
