"""Folds what surrounds an affine operator into its weights, as TensorFlow's converter does.

The converter folds constants only, and in a skeleton weights are arguments. The rules here are
those of its passes that our networks meet: see `fold`.
"""

import itertools
from collections.abc import Callable

import numpy as np

from tfsnap.errors import TfsnapError
from tfsnap.export.schema import schema
from tfsnap.export.tflite_graph import ABSENT, Operator, TFLiteGraph, size
from tfsnap.weights.lazy import LazyTensor

AFFINE = {"CONV_2D": 0, "DEPTHWISE_CONV_2D": 3, "FULLY_CONNECTED": 0}  # Axis of output channels.
_NONE = schema.ActivationFunctionType.NONE
_WITH_KEPT_RANK = 5  # The version of FULLY_CONNECTED that has `keepNumDims`.


class UnsupportedGraphError(TfsnapError, ValueError):
    """A network does something with its weights that cannot be exported."""


def fold(graph: TFLiteGraph) -> None:
    """Rewrites a skeleton whose weights are bound to what the converter makes of constants.

    1. Operators on constants alone are evaluated.
    2. A matrix product with a constant becomes a FULLY_CONNECTED.
    3. ADD and MUL of a constant behind an affine operator go into its bias and weights.
    4. MUL and ADD before a FULLY_CONNECTED that has a bias, and MUL of one number before any affine
       operator, go there too.
    5. RESHAPEs move before a FULLY_CONNECTED where they then merge with others.

    Args:
      graph: is changed.

    Raises:
      UnsupportedGraphError: an operator on weights alone is not known here.
    """
    _evaluate_constants(graph)
    for op in list(graph.operators):
        if op.name == "BATCH_MATMUL":
            _to_fully_connected(graph, op)
    for op in [
        op for op in graph.operators if op.name in AFFINE and op.inputs[1] in graph.constants
    ]:
        # In the order of the converter, so that roundings are its: a bias first, without which a
        # FULLY_CONNECTED takes nothing that comes before it.
        _fold_next(graph, op)
        while _fold_previous(graph, op):
            pass
        while _fold_next(graph, op):
            pass
    graph.remove_unread()
    _merge_reshapes(graph)
    graph.remove_unread()


def _evaluate_constants(graph: TFLiteGraph) -> None:
    for op in list(graph.operators):
        if all(index in graph.constants for index in op.inputs if index != ABSENT):
            if op.name not in _EVALUATED:
                raise UnsupportedGraphError(
                    f"{op.name} of weights alone, {graph.name(op.outputs[0])}, cannot be exported: "
                    f"do it when the weight is made; exported are {', '.join(_EVALUATED)}"
                )
            graph.constants[op.outputs[0]] = _EVALUATED[op.name](graph, op)
            graph.remove(op)


def _transpose(graph: TFLiteGraph, op: Operator) -> LazyTensor:
    axes = graph.constants[op.inputs[1]].read()
    value = graph.constants[op.inputs[0]]
    return value.map(graph.shape(op.outputs[0]), lambda array: np.transpose(array, axes))


def _reshape(graph: TFLiteGraph, op: Operator) -> LazyTensor:
    shape = graph.shape(op.outputs[0])
    return graph.constants[op.inputs[0]].map(shape, lambda array: array.reshape(shape))


def _slice(graph: TFLiteGraph, op: Operator) -> LazyTensor:
    """A slice that is everything: what indexing with a new axis leaves."""
    value = graph.constants[op.inputs[0]]
    if value.shape != graph.shape(op.outputs[0]):
        raise UnsupportedGraphError(
            f"{graph.name(op.outputs[0])} is a part of a weight, which cannot be exported"
        )
    return value


_EVALUATED: dict[str, Callable[[TFLiteGraph, Operator], LazyTensor]] = {
    "TRANSPOSE": _transpose,
    "RESHAPE": _reshape,
    "STRIDED_SLICE": _slice,
}


def _to_fully_connected(graph: TFLiteGraph, op: Operator) -> None:
    """Turns x W into a FULLY_CONNECTED, where W is one constant matrix for the whole batch."""
    x, weight = op.inputs
    options = op.packed.builtinOptions
    value = graph.constants.get(weight)
    ranks = len(graph.shape(x)), len(graph.shape(op.outputs[0]))
    if value is None or options.adjX or size(value.shape[:-2]) != 1 or ranks[0] != ranks[1]:
        return
    rows, columns = value.shape[-2:]
    value = value.map((rows, columns), lambda array: array.reshape(rows, columns))
    if not options.adjY:
        value = value.map((columns, rows), np.transpose)
    op.name, op.version = "FULLY_CONNECTED", _WITH_KEPT_RANK
    op.packed.builtinOptionsType = schema.BuiltinOptions.FullyConnectedOptions
    op.packed.builtinOptions = schema.FullyConnectedOptionsT(keepNumDims=True)
    graph.rewire(op, [x, graph.add_constant(graph.name(weight), value), ABSENT])


def _constant_side(graph: TFLiteGraph, op: Operator) -> tuple[int, LazyTensor] | None:
    """The run-time input of an ADD or MUL, and its other one: a vector over the last axis."""
    for x, other in itertools.permutations(op.inputs):
        value = graph.constants.get(other)
        if value is None or x in graph.constants or value.dtype != np.float32:
            continue
        channels = graph.shape(op.outputs[0])[-1] if graph.shape(op.outputs[0]) else 1
        # Nothing may be broadcast but the constant.
        same = graph.shape(x) == graph.shape(op.outputs[0])
        if same and (size(value.shape) == 1 or value.shape[-1:] == (size(value.shape),)):
            count = size(value.shape)
            return (x, value.map((count,), np.ravel)) if count in (1, channels) else None
    return None


def _activation(op: Operator) -> int:
    return op.packed.builtinOptions.fusedActivationFunction


def _fold_next(graph: TFLiteGraph, op: Operator) -> bool:
    """Folds the ADD or MUL that alone reads an affine operator, a RESHAPE between them or not."""
    after = graph.only_reader(op.outputs[0])
    channels = graph.shape(op.outputs[0])[-1]
    reshape = None
    if after is not None and after.name == "RESHAPE":
        reshape, after = after, graph.only_reader(after.outputs[0])
        if graph.shape(reshape.outputs[0])[-1:] != (channels,):
            return False
    if after is None or after.name not in ("ADD", "MUL") or _activation(op) != _NONE:
        return False
    found = _constant_side(graph, after)
    if found is None:
        return False
    if after.name == "ADD":
        _set_bias(graph, op, _plus(_bias(graph, op, channels), found[1]))
    else:
        _scale(graph, op, found[1], AFFINE[op.name])
        if _has_bias(op):
            _set_bias(graph, op, _times(_bias(graph, op, channels), found[1]))
    op.packed.builtinOptions.fusedActivationFunction = _activation(after)
    result = after.outputs[0]
    graph.remove(after)
    graph.take_output(op if reshape is None else reshape, result)
    return True


def _fold_previous(graph: TFLiteGraph, op: Operator) -> bool:
    """Folds the ADD or MUL that an affine operator reads."""
    before = graph.maker(op.inputs[0])
    if before is None or before.name not in ("ADD", "MUL") or _activation(before) != _NONE:
        return False
    found = _constant_side(graph, before)
    if found is None:
        return False
    x, value = found
    weight = graph.constants[op.inputs[1]]
    vectors = op.name == "FULLY_CONNECTED" and _has_bias(op)
    if before.name == "ADD" and vectors and graph.shape(x)[-1] == weight.shape[1]:
        _set_bias(graph, op, _plus_product(_bias(graph, op, weight.shape[0]), weight, value))
    elif before.name == "MUL" and vectors and value.shape[0] in (1, weight.shape[1]):
        _scale(graph, op, value, 1)
    elif before.name == "MUL" and value.shape == (1,) and graph.only_reader(op.inputs[0]) is op:
        _scale(graph, op, value, AFFINE[op.name])
    else:
        return False
    graph.rewire(op, [x, *op.inputs[1:]])
    return True


def _has_bias(op: Operator) -> bool:
    return len(op.inputs) > 2 and op.inputs[2] != ABSENT


def _bias(graph: TFLiteGraph, op: Operator, channels: int) -> LazyTensor:
    if _has_bias(op):
        return graph.constants[op.inputs[2]]
    return LazyTensor((channels,), np.dtype(np.float32), lambda: np.zeros(channels, np.float32))


def _set_bias(graph: TFLiteGraph, op: Operator, value: LazyTensor) -> None:
    index = graph.add_constant(graph.name(op.outputs[0]) + "/bias", value)
    graph.rewire(op, [*op.inputs[:2], index])


def _scale(graph: TFLiteGraph, op: Operator, factor: LazyTensor, axis: int) -> None:
    """Multiplies the weights along an axis."""
    weight = graph.constants[op.inputs[1]]
    shape = [1] * len(weight.shape)
    if factor.shape != (1,):
        shape[axis] = -1
    scaled = weight.map(weight.shape, lambda array: array * factor.read().reshape(shape))
    index = graph.add_constant(graph.name(op.inputs[1]), scaled)
    graph.rewire(op, [op.inputs[0], index, *op.inputs[2:]])


def _plus(bias: LazyTensor, value: LazyTensor) -> LazyTensor:
    return bias.map(bias.shape, lambda array: array + value.read())


def _times(bias: LazyTensor, value: LazyTensor) -> LazyTensor:
    return bias.map(bias.shape, lambda array: array * value.read())


def _plus_product(bias: LazyTensor, weight: LazyTensor, value: LazyTensor) -> LazyTensor:
    """The bias that an affine operator has once its input lacks `value`."""

    def change(array: np.ndarray) -> np.ndarray:
        inputs = np.broadcast_to(value.read(), weight.shape[1])
        return array + weight.read() @ inputs

    return bias.map(bias.shape, change)


def _merge_reshapes(graph: TFLiteGraph) -> None:
    for op in list(graph.operators):
        while op.name == "FULLY_CONNECTED" and _move_reshape_before(graph, op):
            pass
    made: dict[tuple[int, tuple[int, ...]], int] = {}
    for op in [op for op in graph.operators if op.name == "RESHAPE"]:
        before = graph.maker(op.inputs[0])
        if before is not None and before.name == "RESHAPE":
            graph.rewire(op, [before.inputs[0], *op.inputs[1:]])
        result = op.outputs[0]
        key = op.inputs[0], graph.shape(result)
        same = op.inputs[0] if graph.shape(op.inputs[0]) == key[1] else made.get(key)
        if same is None:
            made[key] = result
        elif result not in graph.outputs:
            graph.redirect(result, same)
            graph.remove(op)


def _move_reshape_before(graph: TFLiteGraph, op: Operator) -> bool:
    """Swaps a FULLY_CONNECTED between two RESHAPEs with the second, if that keeps the channels."""
    before, after = graph.maker(op.inputs[0]), graph.only_reader(op.outputs[0])
    if before is None or after is None or {before.name, after.name} != {"RESHAPE"}:
        return False
    *leading, channels = graph.shape(after.outputs[0])
    if channels != graph.shape(op.outputs[0])[-1] or not op.packed.builtinOptions.keepNumDims:
        return False
    x, result = op.inputs[0], after.outputs[0]
    shape = (*leading, graph.shape(x)[-1])
    moved = graph.add_tensor(graph.name(x), shape, "float32")
    sides = np.array(shape, np.int32)
    target = graph.add_constant("shape", LazyTensor(sides.shape, sides.dtype, lambda: sides))
    graph.remove(after)
    after.packed.builtinOptions = schema.ReshapeOptionsT(newShape=list(shape))
    after.packed.builtinOptionsType = schema.BuiltinOptions.ReshapeOptions
    after.inputs, after.outputs = [x, target], [moved]
    graph.insert(after, behind=before)
    graph.rewire(op, [moved, *op.inputs[1:]])
    graph.take_output(op, result)
    return True
