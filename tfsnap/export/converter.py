"""TensorFlow graph to TFLite flatbuffer: the one place that knows the converter."""

import tensorflow as tf

from tfsnap.export.flatbuffer import widen_gathered_tables
from tfsnap.export.graphs import Graph

PRECISIONS = ("fp16", "int8")


def convert(graph: Graph, precision: str) -> bytes:
    """Converts a graph.

    Args:
      graph: the graph; its argument and result names become the signature's.
      precision: "fp16" stores weights as half floats, and every delegate computes as it likes;
        "int8" stores weights as int8 and quantises activations at run time (dynamic range), for the
        CPU.

    Returns:
      The flatbuffer.

    Raises:
      ValueError: the precision is unknown.
    """
    if precision not in PRECISIONS:
        raise ValueError(f"precision is {precision!r}; it must be one of {', '.join(PRECISIONS)}")
    # A bare module that tracks the variables: given the Keras model itself, the converter would
    # save every layer's call functions as well.
    module = tf.Module()
    module.weights = graph.weights
    converter = tf.lite.TFLiteConverter.from_concrete_functions([graph.concrete()], module)
    converter.optimizations = [tf.lite.Optimize.DEFAULT]
    if precision == "fp16":
        converter.target_spec.supported_types = [tf.float16]
    else:
        # Per-channel Dense layers need FULLY_CONNECTED version 12, which tflite-runtime 2.14 lacks.
        converter._experimental_disable_per_channel_quantization_for_dense_layers = True
    return widen_gathered_tables(converter.convert())
