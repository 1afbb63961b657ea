"""How the weights of a TFLite graph are stored: the layouts of TensorFlow's converter."""

from collections.abc import Callable, Iterable, Iterator

import numpy as np

from tfsnap.export.folding import AFFINE
from tfsnap.export.tflite_graph import Operator, TFLiteGraph, size
from tfsnap.export.wide_convolutions import split_wide
from tfsnap.weights.lazy import LazyTensor

_SMALLEST = 1024  # Numbers of a weight that is worth int8, as in the converter.
_STEPS = 127  # On either side of zero: -128 is left out, so that the range is symmetric.
_LEAST = 0.5e-6  # What the converter takes for the largest of numbers that are nearly zero.
# Versions of operators in which they take int8 weights and float activations. FULLY_CONNECTED takes
# one scale per channel from version 12 on, which tflite-runtime 2.14 lacks: it gets one for all.
_HYBRID = {"CONV_2D": 5, "DEPTHWISE_CONV_2D": 6, "FULLY_CONNECTED": 9}
PER_TENSOR = ("FULLY_CONNECTED", "GATHER")
_DEQUANTIZE = {"float16": 3, "int8": 2}  # Versions in which it takes that type.
_DEQUANTIZE_CHANNELS = 5
_GATHER_INT8 = 2


def store_as_float16(graph: TFLiteGraph) -> None:
    """Stores constants as float16 with a DEQUANTIZE behind each, for GPUs.

    GPU delegates fold that into convolutions and matrix products, but refuse a GATHER of it: the
    embedding table of a text encoder stays float32. Convolutions too wide for them come in parts.
    """
    split_wide(graph)
    tables = {op.inputs[0] for op in graph.operators if op.name == "GATHER"}
    for index in list(_floats(graph)):
        if index not in tables:
            _narrow(graph, index)


def store_layers_as_float16(graph: TFLiteGraph, layers: Iterable[Operator]) -> None:
    """Stores the weights of affine operators as float16, with a DEQUANTIZE behind each."""
    for op in layers:
        if op.inputs[1] in graph.constants:  # Else another layer has the same weights.
            _narrow(graph, op.inputs[1])


def store_as_int8(graph: TFLiteGraph) -> None:
    """Stores weights as int8, for operators that quantise activations as they run.

    Scales are per output channel for convolutions and one for a FULLY_CONNECTED. A GATHER gives
    rows of int8, which a DEQUANTIZE turns to floats.
    """
    store_tables_as_int8(graph)
    for op in _with_weights(graph):
        quantised, _ = quantise_weights(graph, op)
        graph.rewire(op, [op.inputs[0], quantised, *op.inputs[2:]])
        op.version = max(op.version, _HYBRID[op.name])
        if op.name == "FULLY_CONNECTED":
            op.packed.builtinOptions.asymmetricQuantizeInputs = True


def store_weights_as_int8(graph: TFLiteGraph) -> None:
    """Stores weights as int8 with a DEQUANTIZE behind each: activations stay float."""
    store_tables_as_int8(graph)
    for op in _with_weights(graph):
        quantised, _ = quantise_weights(graph, op)
        _dequantize(graph, op.inputs[1], quantised)


def store_tables_as_int8(graph: TFLiteGraph) -> None:
    """Stores the tables that a GATHER takes rows of as int8, with one scale."""
    for op in list(graph.operators):
        if op.name == "GATHER" and _is_worth_int8(graph, op.inputs[0]):
            _gather_int8(graph, op)


STORES: dict[str, Callable[[TFLiteGraph], None]] = {
    "fp16": store_as_float16,
    "int8": store_as_int8,
    "int8_weights": store_weights_as_int8,
}


def quantise(
    value: LazyTensor, axis: int | None, *, least: float | np.ndarray = 0.0
) -> tuple[LazyTensor, np.ndarray]:
    """Quantises a tensor symmetrically to -127..127.

    Args:
      value: float32; read twice, now for the scales and when the result is read.
      axis: of channels that have a scale each; None is one scale for all.
      least: scale, or one for each scale, below which none may be.

    Returns:
      The int8 tensor, and scales as float64.
    """
    others = tuple(i for i in range(len(value.shape)) if i != axis)
    largest = np.max(np.abs(value.read()), axis=others, keepdims=True).astype(np.float64)
    scales = np.maximum(largest, _LEAST) / _STEPS
    floor = np.broadcast_to(least, largest.size).reshape(largest.shape)
    scales = np.maximum(scales, floor)

    def change(array: np.ndarray) -> np.ndarray:
        steps = array / scales
        # Halves are rounded away from zero, as the converter does; the cast truncates.
        steps += np.copysign(0.5, steps)
        return steps.astype(np.int8)

    integers = value.map(value.shape, change)
    return LazyTensor(value.shape, np.dtype(np.int8), integers.read), scales.ravel()


def quantise_weights(
    graph: TFLiteGraph, op: Operator, *, least: float | np.ndarray = 0.0
) -> tuple[int, np.ndarray]:
    """Adds the int8 form of an operator's weights.

    Args:
      graph: is changed; the operator is not.
      op: the operator.
      least: see `quantise`.

    Returns:
      The tensor, and its scales: one, or one for each output channel.
    """
    place = 0 if op.name == "GATHER" else 1
    index = op.inputs[place]
    axis = None if op.name in PER_TENSOR else AFFINE[op.name]
    value, scales = quantise(graph.constants[index], axis, least=least)
    added = graph.add_constant(graph.name(index), value)
    graph.quantise(added, scales, axis or 0)
    return added, scales


def _floats(graph: TFLiteGraph) -> Iterator[int]:
    """Constants that operators read and that are float32."""
    for index in dict.fromkeys(index for op in graph.operators for index in op.inputs):
        value = graph.constants.get(index)
        if value is not None and value.dtype == np.float32:
            yield index


def _with_weights(graph: TFLiteGraph) -> Iterator[Operator]:
    """Affine operators whose weights are worth int8."""
    for op in list(graph.operators):
        if op.name in AFFINE and _is_worth_int8(graph, op.inputs[1]):
            yield op


def _is_worth_int8(graph: TFLiteGraph, index: int) -> bool:
    value = graph.constants.get(index)
    return value is not None and value.dtype == np.float32 and size(value.shape) >= _SMALLEST


def _narrow(graph: TFLiteGraph, index: int) -> None:
    """Stores a constant as float16."""
    name = graph.name(index)
    narrow = graph.constants[index].cast("float16", name, "--precision=int8")
    _dequantize(graph, index, graph.add_constant(name, narrow))


def _dequantize(graph: TFLiteGraph, index: int, stored: int) -> None:
    """Gives the readers of a constant what is stored in its place, as floats."""
    value = graph.constants[stored]
    widened = graph.add_tensor(graph.name(index), value.shape, "float32")
    graph.redirect(index, widened)
    version = _DEQUANTIZE[value.dtype.name]
    if graph.scales(stored) > 1:
        version = _DEQUANTIZE_CHANNELS
    graph.insert(Operator("DEQUANTIZE", version, [stored], [widened]))


def _gather_int8(graph: TFLiteGraph, op: Operator) -> None:
    """Gathers rows of an int8 table."""
    table, _ = quantise_weights(graph, op)
    result = op.outputs[0]
    rows = graph.add_tensor(graph.name(result), graph.shape(result), "int8")
    graph.copy_quantisation(table, rows)
    graph.rewire(op, [table, *op.inputs[1:]])
    after = Operator("DEQUANTIZE", _DEQUANTIZE["int8"], [rows], [result])
    graph.take_output(op, rows)
    op.version = max(op.version, _GATHER_INT8)
    graph.insert(after, behind=op)
