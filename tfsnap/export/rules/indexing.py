"""Rules about operators that pick parts of a tensor."""

from collections.abc import Iterable

from tfsnap.export.rules.graph import Graph, Operator
from tfsnap.export.rules.rule import (
    GPU,
    GPU_CLASSIC,
    GPUS,
    XNNPACK,
    Effect,
    Match,
    Rule,
    each_of,
)

_SPLIT_CHANNELS = 2_560  # 5,120 were refused, of any number of rows; 2,560 were not.


def _indices(operator: Operator) -> str | None:
    indices = operator.inputs[1]
    return None if len(indices.shape) == 1 else f"indices {indices}"


def _half_table(graph: Graph) -> Iterable[Match]:
    unpacked = {op.outputs[0] for op in graph.operators if op.builtin == "DEQUANTIZE"}
    for operator in graph.operators:
        if operator.builtin == "GATHER" and operator.inputs[0] in unpacked:
            yield operator, f"table {operator.inputs[0]} behind a DEQUANTIZE"


def _masks(operator: Operator) -> str | None:
    masks = {"EllipsisMask": "ellipsis", "ShrinkAxisMask": "shrink_axis"}
    set_ = [word for name, word in masks.items() if operator.options.get(name)]
    return f"{' and '.join(set_)} mask" if set_ else None


def _reverse(operator: Operator) -> str | None:
    strides = operator.inputs[3].values
    return f"strides {list(strides)}" if strides and min(strides) < 0 else None


def _wide_split(operator: Operator) -> str | None:
    axis, whole = operator.inputs[0].values, operator.inputs[1].shape
    along_channels = axis and axis[0] % len(whole) == len(whole) - 1
    return f"{whole[-1]} channels" if along_channels and whole[-1] > _SPLIT_CHANNELS else None


def _steps(operator: Operator) -> str | None:
    strides = operator.inputs[3].values
    return f"strides {list(strides)}" if strides and set(strides) != {1} else None


def _slice_rank(operator: Operator) -> str | None:
    rank = len(operator.inputs[0].shape)
    return None if rank in (3, 4) else f"rank {rank}"


def _pad_rank(operator: Operator) -> str | None:
    rows = operator.inputs[1].shape[0]
    return None if rows in (3, 4) else f"{rows} axes are padded"


RULES = (
    Rule(
        "gather-rank",
        "GPU delegates gather with indices of one axis: reshape them to [N], then the result.",
        GPUS,
        Effect.REJECTED,
        each_of(["GATHER"], _indices),
    ),
    Rule(
        "gather-half",
        "GPU delegates fold the DEQUANTIZE of a float16 constant into products and convolutions, "
        "but not into a GATHER: keep the table in float32.",
        GPUS,
        Effect.REJECTED,
        _half_table,
    ),
    Rule(
        "gather-nd",
        "GPU delegates have no GATHER_ND: use a GATHER, or slices.",
        GPUS,
        Effect.REJECTED,
        each_of(["GATHER_ND"], Operator.shapes),
    ),
    Rule(
        "strided-slice-mask",
        "A STRIDED_SLICE that drops an axis or has an ellipsis is refused: slice, then RESHAPE.",
        (GPU, GPU_CLASSIC, XNNPACK),
        Effect.REJECTED,
        each_of(["STRIDED_SLICE"], _masks),
    ),
    Rule(
        "strided-slice-reverse",
        "A STRIDED_SLICE with a negative stride is refused: use REVERSE_V2.",
        (GPU, GPU_CLASSIC),
        Effect.REJECTED,
        each_of(["STRIDED_SLICE"], _reverse),
    ),
    Rule(
        "wide-split",
        "The GPU accelerator writes out a SPLIT along the channels, channel by channel, and "
        "thousands of them are more than a compiler takes: use STRIDED_SLICE.",
        (GPU,),
        Effect.REJECTED,
        each_of(["SPLIT"], _wide_split),
    ),
    Rule(
        "strided-slice-step",
        "XNNPACK slices with strides of 1 only.",
        (XNNPACK,),
        Effect.REJECTED,
        each_of(["STRIDED_SLICE"], _steps),
    ),
    Rule(
        "slice-rank",
        "The classic delegate slices tensors of rank 3 and 4 only.",
        (GPU_CLASSIC,),
        Effect.REJECTED,
        each_of(["SLICE", "STRIDED_SLICE"], _slice_rank),
    ),
    Rule(
        "pad-rank",
        "The classic delegate pads tensors of rank 3 and 4 only.",
        (GPU_CLASSIC,),
        Effect.REJECTED,
        each_of(["PAD", "PADV2", "MIRROR_PAD"], _pad_rank),
    ),
)
