"""Random inputs for networks that are measured."""

from collections.abc import Mapping, Sequence

import numpy as np

from tfsnap.tokenizer import VOCAB_SIZE


def random_inputs(
    described: Mapping[str, tuple[Sequence[int], str]],
    seed: int = 0,
    vocabulary: int = VOCAB_SIZE,
) -> dict[str, np.ndarray]:
    """Normally distributed floats, and tokens for integers; the same in every process.

    Args:
      described: shape and type of each input.
      seed: of the numbers.
      vocabulary: how many tokens there are.
    """
    rng = np.random.default_rng(seed)
    return {
        name: rng.integers(0, vocabulary, shape).astype(np.int32)
        if dtype == "int32"
        else rng.standard_normal(shape, dtype=np.float32)
        for name, (shape, dtype) in described.items()
    }
