"""Rules about the shapes of tensors."""

from tfsnap.export.rules.graph import Operator
from tfsnap.export.rules.rule import (
    ALL,
    COREML,
    GPU,
    GPU_CLASSIC,
    NNAPI,
    XNNPACK,
    Effect,
    Rule,
    each,
)


def _beyond(rank: int, operator: Operator) -> str | None:
    # Weights are stored as the delegate likes, of any rank.
    tensors = [tensor for tensor in operator.tensors if not tensor.constant]
    found = [tensor for tensor in tensors if len(tensor.shape) > rank]
    return f"rank {len(found[0].shape)}: {found[0]}" if found else None


def _dynamic(operator: Operator) -> str | None:
    found = [tensor for tensor in operator.tensors if -1 in tensor.shape]
    return f"unknown until it runs: {found[0]}" if found else None


RULES = (
    Rule(
        "rank",
        "The delegate holds tensors as batch, height, width and channels, so of 4 axes at most.",
        (GPU, GPU_CLASSIC, COREML, NNAPI),
        Effect.REJECTED,
        each(lambda operator: _beyond(4, operator)),
    ),
    Rule(
        "rank-6",
        "XNNPACK's operators take tensors of 6 axes at most (XNN_MAX_TENSOR_DIMS).",
        (XNNPACK,),
        Effect.REJECTED,
        each(lambda operator: _beyond(6, operator)),
    ),
    Rule(
        "dynamic-shape",
        "Delegates compile for sizes that are in the file and leave a tensor without to the CPU.",
        ALL,
        Effect.REJECTED,
        each(_dynamic),
    ),
)
