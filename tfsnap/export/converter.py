"""TensorFlow graph to TFLite: the one place that knows TensorFlow's converter.

The converter is given a skeleton whose weights are arguments: with Stable Diffusion's weights in
the graph it takes more than 20 GB. They are folded in and stored afterwards, tensor by tensor.
"""

import re

import tensorflow as tf

from tfsnap.export.flatbuffer import ConvertedModel
from tfsnap.export.folding import UnsupportedGraphError, fold
from tfsnap.export.graphs import Graph
from tfsnap.export.precision import STORES
from tfsnap.export.scheduling import schedule
from tfsnap.export.skeleton import Skeleton, skeleton_of
from tfsnap.export.tflite_graph import TFLiteGraph

PRECISIONS = tuple(STORES)
_REFUSED = re.compile(r"'tf\.(\w+)' op is neither a custom op nor a flex op")


def convert(graph: Graph, precision: str) -> ConvertedModel:
    """Converts a graph.

    Args:
      graph: the graph; its argument and result names become the signature's.
      precision: "fp16" stores weights as half floats, every delegate computes as it likes, and
        convolutions too wide for GPUs are in parts (`tfsnap.export.wide_convolutions`); "int8"
        stores weights as int8 and quantises activations at run time (dynamic range), for the CPU;
        "int8_weights" stores them as int8 and computes in floats.

    Returns:
      The model, its weights not yet read.

    Raises:
      ValueError: the precision is unknown, or the model is larger than a flatbuffer can be.
      UnsupportedGraphError: TFLite, or the exporter, lacks an operator of the graph.
    """
    if precision not in PRECISIONS:
        raise ValueError(f"precision is {precision!r}; it must be one of {', '.join(PRECISIONS)}")
    edited = folded(graph)
    STORES[precision](edited)
    return ConvertedModel(f"{graph.name} in {precision}", *edited.packed())


def folded(graph: Graph) -> TFLiteGraph:
    """Converts a graph to float32 operators, its weights not yet stored.

    Raises:
      UnsupportedGraphError: TFLite, or the exporter, lacks an operator of the graph.
    """
    skeleton = skeleton_of(graph)
    edited = TFLiteGraph.parse(_converted(skeleton))
    edited.bind(skeleton.weights)
    fold(edited)
    schedule(edited)
    return edited


def _converted(skeleton: Skeleton) -> bytes:
    converter = tf.lite.TFLiteConverter.from_concrete_functions([skeleton.concrete()], tf.Module())
    try:
        return converter.convert()
    except Exception as error:  # The converter's own kinds have no public name.
        refused = sorted(set(_REFUSED.findall(str(error))))
        if not refused:
            raise
        raise UnsupportedGraphError(
            f"{skeleton.name} cannot be exported: TFLite lacks {', '.join(refused)}; compute it "
            "from other operators in the layer that uses it"
        ) from error
