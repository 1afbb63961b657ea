"""Splits convolutions whose weights no texture of a GPU would hold.

GPU accelerators may keep the weights of a convolution in a texture with a row for each place of the
kernel and input channel. Where that is more than the GPU's textures have, LiteRT's compiles all the
same, and computes something else (docs/delegates.md).
"""

import copy
import itertools
import math

import numpy as np

from tfsnap.export.schema import schema
from tfsnap.export.tflite_graph import Operator, TFLiteGraph
from tfsnap.weights.lazy import LazyTensor

MOST_ROWS = 8192  # Of a texture, in WebGPU's default limits.
_VECTOR = 4  # Channels that GPUs keep together.
_NONE = schema.ActivationFunctionType.NONE


def split_wide(graph: TFLiteGraph, most_rows: int = MOST_ROWS) -> None:
    """Makes a sum of convolutions, each of a part of the channels, of those that are too wide.

    Args:
      graph: is changed.
      most_rows: the most that height x width x input channels of a kernel may be.
    """
    for op in [op for op in graph.operators if op.name == "CONV_2D"]:
        kernel = graph.constants.get(op.inputs[1])
        if kernel is not None and math.prod(kernel.shape[1:]) > most_rows:
            _split(graph, op, kernel, most_rows)


def _split(graph: TFLiteGraph, op: Operator, kernel: LazyTensor, most_rows: int) -> None:
    *_, height, width, channels = kernel.shape
    if channels != graph.shape(op.inputs[0])[-1]:
        return  # A grouped convolution, of which no network here is so wide.
    widest = max(_VECTOR, most_rows // (height * width) // _VECTOR * _VECTOR)
    # Parts of nearly one width, none of which is wider than the widest.
    step = _VECTOR * math.ceil(channels / math.ceil(channels / widest) / _VECTOR)
    made: list[Operator] = []
    for start in range(0, channels, step):
        total, part = made[-1:], slice(start, min(start + step, channels))
        piece = _slice(graph, op, part)
        made += [piece, _convolution(graph, op, kernel, piece, part)]
        if total:
            made.append(_sum(graph, *total, made[-1]))
    for before, new in itertools.pairwise([op, *made]):
        graph.insert(new, behind=before)
    activation = op.packed.builtinOptions.fusedActivationFunction
    made[-1].packed.builtinOptions.fusedActivationFunction = activation
    result = op.outputs[0]
    graph.remove(op)
    graph.take_output(made[-1], result)


def _slice(graph: TFLiteGraph, op: Operator, part: slice) -> Operator:
    """Channels of the input."""
    x, name = op.inputs[0], graph.name(op.outputs[0])
    shape = (*graph.shape(x)[:-1], part.stop - part.start)
    begin = np.array([0] * len(shape[:-1]) + [part.start], np.int32)
    inputs = [x]
    for label, value in (("begin", begin), ("size", np.array(shape, np.int32))):
        tensor = LazyTensor(value.shape, value.dtype, lambda value=value: value)
        inputs.append(graph.add_constant(f"{name}/{label}_{part.start}", tensor))
    output = graph.add_tensor(f"{name}/slice_{part.start}", shape, "float32")
    made = Operator("SLICE", 1, inputs, [output])
    made.packed.builtinOptionsType = schema.BuiltinOptions.SliceOptions
    made.packed.builtinOptions = schema.SliceOptionsT()
    return made


def _convolution(
    graph: TFLiteGraph, op: Operator, kernel: LazyTensor, piece: Operator, part: slice
) -> Operator:
    """The convolution of these channels; the first adds the bias."""
    shape = (*kernel.shape[:-1], part.stop - part.start)
    weights = kernel.map(shape, lambda array: np.ascontiguousarray(array[..., part]))
    bias = graph.constants[op.inputs[2]]
    if part.start:
        bias = bias.map(bias.shape, np.zeros_like)
    name = graph.name(op.outputs[0])
    inputs = [
        piece.outputs[0],
        graph.add_constant(f"{name}/kernel_{part.start}", weights),
        graph.add_constant(f"{name}/bias_{part.start}", bias),
    ]
    shape = graph.shape(op.outputs[0])
    output = graph.add_tensor(f"{name}/part_{part.start}", shape, "float32")
    made = Operator(op.name, op.version, inputs, [output], copy.deepcopy(op.packed))
    made.packed.builtinOptions.fusedActivationFunction = _NONE
    return made


def _sum(graph: TFLiteGraph, total: Operator, last: Operator) -> Operator:
    name, shape = graph.name(last.outputs[0]), graph.shape(last.outputs[0])
    output = graph.add_tensor(f"{name}/sum", shape, "float32")
    made = Operator("ADD", 1, [total.outputs[0], last.outputs[0]], [output])
    made.packed.builtinOptionsType = schema.BuiltinOptions.AddOptions
    made.packed.builtinOptions = schema.AddOptionsT()
    return made
