"""Activations that are computed a second time on the way back, instead of being kept."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import tensorflow as tf
import tf_keras as keras

from tfsnap.training.named_layers import named_layers


def rematerialize(model: keras.Model, patterns: Sequence[str]) -> list[str]:
    """Makes layers forget what they computed until their gradient is wanted.

    A layer then keeps its inputs only, and runs twice for a step: less memory for about a third
    more time. Of layers within each other the outermost is taken. The update stays the same.

    Args:
      model: a built network; its layers are changed in place.
      patterns: names of layers, such as "down.0", or patterns such as "up.*".

    Returns:
      The names of the layers that were changed, in order.

    Raises:
      ValueError: a pattern names no layer of the network.

    Reference: Chen et al. 2016 (arXiv 1604.06174).
    """
    chosen = named_layers(model, patterns, field="training.rematerialize")
    outermost = [name for name in chosen if not any(_within(name, other) for other in chosen)]
    for name in outermost:
        _recompute(chosen[name])
    return outermost


def _within(name: str, other: str) -> bool:
    return name.startswith(f"{other}.")


def _recompute(layer: keras.layers.Layer) -> None:
    """Runs a layer's `call` again for its gradient; `tf.recompute_grad` differs in two ways.

    It takes no keyword arguments in a graph, and nothing there keeps the second run from being
    merged with the first, or from starting at once, which saves no memory.
    """
    call = layer.call

    def second(*args: Any, **kwargs: Any) -> Any:
        layer.call = call
        try:  # Through Keras, which turns weights to the precision that the layer computes in.
            return layer(*args, **kwargs)
        finally:
            layer.call = wrapped

    def wrapped(*args: Any, **kwargs: Any) -> Any:
        inputs = tf.nest.flatten((args, kwargs))
        places = [i for i, x in enumerate(inputs) if tf.is_tensor(x) and x.dtype.is_floating]

        def run(call: Callable[..., Any], *tensors: tf.Tensor) -> Any:
            filled = list(inputs)
            for place, tensor in zip(places, tensors, strict=True):
                filled[place] = tensor
            own_args, own_kwargs = tf.nest.pack_sequence_as((args, kwargs), filled)
            return call(*own_args, **own_kwargs)

        @tf.custom_gradient
        def forward(*tensors: tf.Tensor) -> tuple[Any, Callable[..., Any]]:
            def backward(*upstream: tf.Tensor, variables: Sequence[tf.Variable] = ()) -> Any:
                again = _after(upstream, tensors)
                with tf.GradientTape() as tape:
                    tape.watch(again)
                    outputs = tf.nest.flatten(run(second, *again))
                gradients = tape.gradient(
                    outputs,
                    [*again, *variables],
                    output_gradients=upstream,
                    unconnected_gradients=tf.UnconnectedGradients.ZERO,
                )
                return gradients[: len(again)], gradients[len(again) :]

            return run(call, *tensors), backward

        return forward(*(inputs[place] for place in places))

    layer.call = wrapped


def _after(upstream: Sequence[tf.Tensor], tensors: Sequence[tf.Tensor]) -> list[tf.Tensor]:
    """The same tensors as values that exist only once `upstream` does.

    Control dependencies would do in a graph, but not for XLA, and its optimization barrier not on a
    CPU, where it is removed before equal computations are merged. So the values depend on the
    gradients: a zero is added that no compiler can know to be one.
    """
    some = sum(tf.cast(tf.reshape(u, [-1])[0], tf.float32) for u in upstream)
    zero = tf.cast(some > np.inf, tf.float32)
    return [tensor + tf.cast(zero, tensor.dtype) for tensor in tensors]
