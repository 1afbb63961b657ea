"""Splits convolutions whose weights no texture of a GPU would hold.

GPU accelerators may keep the weights of a convolution in a texture with a row for each place of the
kernel and input channel. Where that is more than the GPU's textures have, LiteRT's compiles all the
same, and computes something else (docs/delegates.md).
"""

import copy
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
    count = math.ceil(height * width * channels / most_rows)
    step = _VECTOR * math.ceil(channels / count / _VECTOR)
    total, last = None, op
    for start in range(0, channels, step):
        stop = min(start + step, channels)
        piece = _slice(graph, op, start, stop, behind=last)
        last = _convolution(graph, op, piece, kernel, (start, stop), behind=piece)
        if total is not None:
            last = _sum(graph, total, last)
        total = last
    activation = op.packed.builtinOptions.fusedActivationFunction
    total.packed.builtinOptions.fusedActivationFunction = activation
    result = op.outputs[0]
    graph.remove(op)
    graph.take_output(total, result)


def _slice(
    graph: TFLiteGraph, op: Operator, start: int, stop: int, *, behind: Operator
) -> Operator:
    """Channels of the input."""
    x, name = op.inputs[0], graph.name(op.outputs[0])
    shape = (*graph.shape(x)[:-1], stop - start)
    begin = np.array([0] * len(shape[:-1]) + [start], np.int32)
    inputs = [x]
    for label, value in (("begin", begin), ("size", np.array(shape, np.int32))):
        tensor = LazyTensor(value.shape, value.dtype, lambda value=value: value)
        inputs.append(graph.add_constant(f"{name}/{label}_{start}", tensor))
    output = graph.add_tensor(f"{name}/slice_{start}", shape, "float32")
    made = Operator("SLICE", 1, inputs, [output])
    made.packed.builtinOptionsType = schema.BuiltinOptions.SliceOptions
    made.packed.builtinOptions = schema.SliceOptionsT()
    graph.insert(made, behind=behind)
    return made


def _convolution(
    graph: TFLiteGraph,
    op: Operator,
    piece: Operator,
    kernel: LazyTensor,
    part: tuple[int, int],
    *,
    behind: Operator,
) -> Operator:
    """The convolution of these channels; the first adds the bias."""
    start, stop = part
    shape = (*kernel.shape[:-1], stop - start)
    weights = kernel.map(shape, lambda array: np.ascontiguousarray(array[..., start:stop]))
    name = graph.name(op.outputs[0])
    bias = graph.constants[op.inputs[2]]
    if start:
        bias = bias.map(bias.shape, np.zeros_like)
    inputs = [
        piece.outputs[0],
        graph.add_constant(f"{name}/kernel_{start}", weights),
        graph.add_constant(f"{name}/bias_{start}", bias),
    ]
    output = graph.add_tensor(f"{name}/part_{start}", graph.shape(op.outputs[0]), "float32")
    made = Operator(op.name, op.version, inputs, [output], copy.deepcopy(op.packed))
    made.packed.builtinOptions.fusedActivationFunction = _NONE
    graph.insert(made, behind=behind)
    return made


def _sum(graph: TFLiteGraph, total: Operator, last: Operator) -> Operator:
    name, shape = graph.name(last.outputs[0]), graph.shape(last.outputs[0])
    output = graph.add_tensor(f"{name}/sum", shape, "float32")
    made = Operator("ADD", 1, [total.outputs[0], last.outputs[0]], [output])
    made.packed.builtinOptionsType = schema.BuiltinOptions.AddOptions
    made.packed.builtinOptions = schema.AddOptionsT()
    graph.insert(made, behind=last)
    return made
