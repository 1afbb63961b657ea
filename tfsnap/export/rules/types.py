"""Rules about the types of tensors."""

from collections.abc import Iterable

from tfsnap.export.rules.graph import Graph, Operator
from tfsnap.export.rules.rule import (
    ALL,
    COREML,
    GPU,
    GPU_CLASSIC,
    GPUS,
    NNAPI,
    Effect,
    Match,
    Rule,
    each,
    each_of,
)

_DEQUANTIZE = 3  # The latest version that GPU delegates take.
_EIGHT_BITS = ("INT8", "UINT8")
_UNPACKED = (3, 4)  # Ranks of stored int8 that the GPU accelerator unpacks.
# Operators of the classic GPU delegate that read, or write, int32 tensors.
_INT32 = {"GATHER", "CAST", "ONE_HOT"}


def _computed(kinds: tuple[str, ...], operator: Operator) -> str | None:
    """Axes and sizes are constants that the delegate reads once; here it is about the rest."""
    found = [t for t in operator.tensors if t.type in kinds and not t.stored]
    return f"computed in {found[0]}" if found else None


def _integers(operator: Operator) -> str | None:
    return None if operator.builtin in _INT32 else _computed(("INT32",), operator)


def _quantized(graph: Graph) -> Iterable[Match]:
    """Activations of eight bits, but for what a (DE)QUANTIZE at the border takes or returns."""
    borders = {"QUANTIZE", "DEQUANTIZE"}
    for operator in graph.operators:
        found = _computed(_EIGHT_BITS, operator)
        if operator.builtin not in borders and found:
            yield operator, found


def _flat(operator: Operator) -> str | None:
    values, weights = operator.inputs[:2]
    if len(values.shape) == 2 and weights.type == "INT8":
        return f"input {values} of rank 2, weights {weights}"
    return None


def _channels(operator: Operator) -> str | None:
    """Of weights too: only float16 is folded into the operator behind it."""
    if operator.version <= _DEQUANTIZE:
        return None
    return f"version {operator.version}, up to {_DEQUANTIZE} is taken"


def _unpacked(operator: Operator) -> str | None:
    (stored,) = operator.inputs
    if not stored.stored or stored.type != "INT8" or len(stored.shape) in _UNPACKED:
        return None
    return f"stored {stored}"


def _version(operator: Operator) -> str | None:
    highest = {"DEPTHWISE_CONV_2D": 2, "FULLY_CONNECTED": 6}.get(operator.builtin, 1)
    folded = operator.builtin == "DEQUANTIZE" and operator.outputs[0].constant
    if operator.version > highest and not folded:
        return f"version {operator.version}, up to {highest} is taken"
    return None


RULES = (
    Rule(
        "int64",
        "Delegates have no 64-bit integers.",
        ALL,
        Effect.REJECTED,
        each(lambda operator: _computed(("INT64",), operator)),
    ),
    Rule(
        "int16",
        "Delegates have no 16-bit integers, so graphs with int16 activations stay on the CPU.",
        ALL,
        Effect.REJECTED,
        each(lambda operator: _computed(("INT16",), operator)),
    ),
    Rule(
        "int32",
        "The classic delegate computes in floats and takes integers only as indices of a GATHER, "
        "for a ONE_HOT or for a CAST.",
        (GPU_CLASSIC,),
        Effect.REJECTED,
        each(_integers),
    ),
    Rule(
        "full-int8",
        "A GPU computes int8 and uint8 activations in floats, with other roundings than the CPU's, "
        "and some graphs come out wrong: an attention layer was 1.2 % of its range off.",
        GPUS,
        Effect.WRONG,
        _quantized,
    ),
    Rule(
        "dequantize-channels",
        "GPU delegates take a DEQUANTIZE up to version 3, where all values share one scale: int8 "
        "weights with a scale for each channel need version 5, so store them as float16.",
        GPUS,
        Effect.REJECTED,
        each_of(["DEQUANTIZE"], _channels),
    ),
    Rule(
        "dequantize-rank",
        "The GPU accelerator unpacks stored int8 of rank 3 and 4 only: a vector is refused, and "
        "the matrix of a FULLY_CONNECTED comes out with other axes; store them as float16.",
        (GPU,),
        Effect.REJECTED,
        each_of(["DEQUANTIZE"], _unpacked),
    ),
    Rule(
        "int8-activations",
        "The Core ML delegate takes float models only.",
        (COREML,),
        Effect.REJECTED,
        _quantized,
    ),
    Rule(
        "int8-flat-product",
        "A 2-D FULLY_CONNECTED with int8 weights has failed to compile on some GPUs; 3-D ones, or "
        "float16 weights, compile.",
        (GPU, GPU_CLASSIC),
        Effect.NOTE,
        each_of(["FULLY_CONNECTED"], _flat),
    ),
    Rule(
        "hybrid",
        "NNAPI has no operator with float inputs and int8 weights before Android 10, and no such "
        "BATCH_MATMUL at all.",
        (NNAPI,),
        Effect.REJECTED,
        each_of(
            ["BATCH_MATMUL"],
            lambda operator: (
                None if operator.inputs[0].type == operator.inputs[1].type else operator.shapes()
            ),
        ),
    ),
    Rule(
        "version",
        "The Core ML delegate was written for the first version of most operators and refuses "
        "later ones.",
        (COREML,),
        Effect.REJECTED,
        each(_version),
    ),
)
