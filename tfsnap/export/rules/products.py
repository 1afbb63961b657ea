"""Rules about matrix products, convolutions and operators that join or split."""

from tfsnap.export.rules.graph import Operator
from tfsnap.export.rules.rule import (
    COREML,
    GPU,
    GPU_CLASSIC,
    GPUS,
    NNAPI,
    XNNPACK,
    Effect,
    Rule,
    each_of,
)
from tfsnap.export.wide_convolutions import MOST_ROWS

_VECTOR = 4  # GPUs keep channels in vectors of this many.


def _broadcast_batch(operator: Operator) -> str | None:
    left, right = (tensor.shape[:-2] for tensor in operator.inputs)
    if left == right or (operator.inputs[1].constant and not right):
        return None
    return f"batches {list(left)} and {list(right)}"


def _constant_left(operator: Operator) -> str | None:
    return f"constant {operator.inputs[0]}" if operator.inputs[0].constant else None


def _constant_right(operator: Operator) -> str | None:
    right = operator.inputs[1]
    return f"constant {right}" if right.constant and len(right.shape) != 2 else None


def _narrow_groups(operator: Operator) -> str | None:
    values, weights = operator.inputs[:2]
    groups = values.shape[-1] // max(weights.shape[-1], 1)
    if groups <= 1:
        return None
    ins, outs = weights.shape[-1], weights.shape[0] // groups
    if ins % _VECTOR == 0 and outs % _VECTOR == 0:
        return None
    return f"{groups} groups of {ins} channels to {outs}"


def _wide_kernel(operator: Operator) -> str | None:
    _, height, width, channels = operator.inputs[1].shape
    rows = height * width * channels
    if rows <= MOST_ROWS:
        return None
    return f"{height} x {width} x {channels:,} = {rows:,} rows"


def _beta(operator: Operator) -> str | None:
    beta = operator.options.get("Beta", 1.0)
    return None if beta == 1.0 else f"beta {beta:g}"


def _one_row(operator: Operator) -> str | None:
    values = operator.inputs[0]
    return f"input {values}" if any(size != 1 for size in values.shape[:-1]) else None


def _channels_last(operator: Operator) -> str | None:
    rank, axis = len(operator.outputs[0].shape), operator.options.get("Axis", 0)
    return None if rank in (3, 4) and axis in (-1, rank - 1) else f"axis {axis} of rank {rank}"


def _many(least: int, most: int, tensors: tuple) -> str | None:
    return None if least <= len(tensors) <= most else f"{len(tensors)} tensors"


RULES = (
    Rule(
        "batch-matmul-broadcast",
        "Where one batch of a BATCH_MATMUL would have to be stretched, GPU delegates compile the "
        "product and compute another: TILE the smaller operand.",
        GPUS,
        Effect.WRONG,
        each_of(["BATCH_MATMUL"], _broadcast_batch),
    ),
    Rule(
        "batch-matmul-unequal",
        "NNAPI has no BATCH_MATMUL with unequal batches.",
        (NNAPI,),
        Effect.REJECTED,
        each_of(["BATCH_MATMUL"], _broadcast_batch),
    ),
    Rule(
        "batch-matmul-left",
        "GPU delegates take a constant as the right operand of a BATCH_MATMUL, never as the left: "
        "transpose the product.",
        GPUS,
        Effect.REJECTED,
        each_of(["BATCH_MATMUL"], _constant_left),
    ),
    Rule(
        "batch-matmul-right",
        "The classic delegate takes a constant right operand of a BATCH_MATMUL only at rank 2.",
        (GPU_CLASSIC,),
        Effect.REJECTED,
        each_of(["BATCH_MATMUL"], _constant_right),
    ),
    Rule(
        "narrow-groups",
        "GPUs keep channels in vectors of 4, and a grouped CONV_2D whose groups have other numbers "
        "of input or output channels compiles and reads beyond its weights.",
        GPUS,
        Effect.WRONG,
        each_of(["CONV_2D"], _narrow_groups),
    ),
    Rule(
        "wide-convolution",
        "The GPU accelerator may keep weights in a texture with a row for each place of the kernel "
        f"and input channel; beyond WebGPU's {MOST_ROWS:,} it computes something else: "
        "add up convolutions of parts of the channels.",
        (GPU,),
        Effect.WRONG,
        each_of(["CONV_2D"], _wide_kernel),
    ),
    Rule(
        "conv-3d",
        "Delegates have no CONV_3D.",
        GPUS,
        Effect.REJECTED,
        each_of(["CONV_3D"], Operator.shapes),
    ),
    Rule(
        "softmax-beta",
        "Delegates take a SOFTMAX without a factor: multiply before it.",
        (GPU, GPU_CLASSIC, COREML, XNNPACK),
        Effect.REJECTED,
        each_of(["SOFTMAX"], _beta),
    ),
    Rule(
        "coreml-rows",
        "The Core ML delegate multiplies one row at a time: all axes but the last have to be 1.",
        (COREML,),
        Effect.REJECTED,
        each_of(["FULLY_CONNECTED"], _one_row),
    ),
    Rule(
        "coreml-concatenation",
        "The Core ML delegate joins tensors of rank 3 and 4 along their channels only.",
        (COREML,),
        Effect.REJECTED,
        each_of(["CONCATENATION"], _channels_last),
    ),
    Rule(
        "xnnpack-concatenation",
        "XNNPACK joins 2 to 5 tensors.",
        (XNNPACK,),
        Effect.REJECTED,
        each_of(["CONCATENATION"], lambda operator: _many(2, 5, operator.operands)),
    ),
    Rule(
        "xnnpack-split",
        "XNNPACK splits into 2 to 4 tensors.",
        (XNNPACK,),
        Effect.REJECTED,
        each_of(["SPLIT"], lambda operator: _many(2, 4, operator.outputs)),
    ),
)
