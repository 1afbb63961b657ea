"""Rules about operators that stretch a tensor to the shape of another."""

from tfsnap.export.rules.graph import Operator, Tensor
from tfsnap.export.rules.rule import (
    COREML,
    GPU_CLASSIC,
    GPUS,
    Effect,
    Rule,
    each_of,
)

_ARITHMETIC = ("ADD", "DIV", "MAXIMUM", "MINIMUM", "MUL", "POW", "SQUARED_DIFFERENCE", "SUB")


def _mixed(operator: Operator) -> str | None:
    """The forms that the classic delegate takes are those of `gpu_compatibility.cc`."""
    short, long = sorted((t.shape for t in operator.operands), key=len)
    if len(short) == len(long) or len(short) < 2:
        return None
    pixels = len(long) == 4 and len(short) == 3 and long[0] == 1
    one = len(long) == 4 and long[0] == 1 and short == (1, 1)
    channels = len(long) == 4 and len(short) == 2 and (long[0], long[3]) == short
    return None if pixels or one or channels else f"ranks {len(long)} and {len(short)}"


def _outer(operator: Operator) -> str | None:
    result = operator.outputs[0].shape
    if any(_size(tensor) == _size(operator.outputs[0]) for tensor in operator.operands):
        return None
    return f"neither operand has the result's shape {list(result)}"


def _size(tensor: Tensor) -> tuple[int, ...]:
    """The shape without leading ones."""
    sizes = list(tensor.shape)
    while sizes and sizes[0] == 1:
        sizes.pop(0)
    return tuple(sizes)


def _constant_batch(operator: Operator) -> str | None:
    """A constant of rank 2 or 3 is read as [H, W] or [H, W, C], whatever its first axis means."""
    for tensor in operator.operands:
        same = all(len(tensor.shape) == len(other.shape) for other in operator.operands)
        if tensor.constant and len(tensor.shape) in (2, 3) and tensor.shape[0] > 1 and same:
            return f"constant {tensor} with its first axis as the batch"
    return None


def _padded(operator: Operator) -> tuple[tuple[int, ...], ...]:
    return tuple((1,) * (4 - len(t.shape)) + t.shape for t in operator.operands)


def _coreml(operator: Operator) -> str | None:
    """[B, H, W, C] with the same, with [1, 1] for H and W, or with 1 for C."""
    if any(len(tensor.shape) > 4 for tensor in operator.operands):
        return None  # The rule about ranks has it.
    one, other = _padded(operator)
    pixels = one[1:3] == other[1:3] or (1, 1) in (one[1:3], other[1:3])
    channels = one[3] == other[3] or 1 in (one[3], other[3])
    scalar = any(t.constant and set(t.shape) <= {1} for t in operator.operands)
    return None if pixels and channels and (one[0] == other[0] or scalar) else operator.shapes()


RULES = (
    Rule(
        "broadcast-to",
        "GPU delegates have no BROADCAST_TO: let an arithmetic operator broadcast, or use TILE.",
        GPUS,
        Effect.REJECTED,
        each_of(["BROADCAST_TO"], Operator.shapes),
    ),
    Rule(
        "mixed-rank",
        "The classic delegate adds and multiplies tensors of different ranks in four forms only: "
        "a vector, [B, C] or [1, 1] with [B, H, W, C], and rank 3 with [1, H, W, C].",
        (GPU_CLASSIC,),
        Effect.REJECTED,
        each_of(["ADD", "MUL"], _mixed),
    ),
    Rule(
        "outer-product",
        "The classic delegate takes one operand for the larger and stretches the other: where both "
        "would have to be stretched it fails.",
        (GPU_CLASSIC,),
        Effect.REJECTED,
        each_of(_ARITHMETIC, _outer),
    ),
    Rule(
        "constant-batch",
        "GPU delegates read a constant of rank 2 as [H, W] and of rank 3 as [H, W, C], so that one "
        "whose first axis is the batch lies along other axes: give both operands a leading 1.",
        GPUS,
        Effect.WRONG,
        each_of(_ARITHMETIC, _constant_batch),
    ),
    Rule(
        "coreml-broadcast",
        "Core ML stretches [B, 1, 1, C], [B, H, W, 1] and [B, 1, 1, 1], and nothing else.",
        (COREML,),
        Effect.REJECTED,
        each_of(["ADD", "MUL"], _coreml),
    ),
)
