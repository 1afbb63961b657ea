"""Networks without weights: as many variables as ever, and none of them takes memory."""

from collections.abc import Callable
from typing import Any, TypeVar

import tensorflow as tf
from tensorflow.python.ops.resource_variable_ops import UninitializedVariable

T = TypeVar("T")


def build_weightless(build: Callable[[], T]) -> T:
    """Builds a network whose variables have names, shapes and types, and no values.

    It can be traced, and neither run nor saved. Variables of a `tf.Graph` take no memory either,
    but a Keras layer made there breaks those that were made outside.

    Args:
      build: makes the network, its weights included.

    Example:
      >>> unet = build_weightless(lambda: build_unet(UNetConfig()))
    """
    # Evaluations within `build`, which give layers their shapes, are traced and forgotten.
    graph = tf.__internal__.FuncGraph("weightless")
    with graph.as_default(), tf.variable_creator_scope(_without_value):
        return build()


def _without_value(create: Callable[..., tf.Variable], **options: Any) -> tf.Variable:
    shape = options.get("shape")
    if shape is None:  # Keras gives none for scalars.
        initial = options["initial_value"]
        shape = (initial() if callable(initial) else initial).shape
    return UninitializedVariable(
        name=options.get("name"),
        shape=shape,
        dtype=options.get("dtype") or tf.float32,
        trainable=options.get("trainable"),
    )
