"""Weights of networks that are measured and not trained."""

import math

import numpy as np

from tfsnap.weights.lazy import LazyTensor


def random_tensor(seed: int, shape: tuple[int, ...], kind: str) -> LazyTensor:
    """Random numbers: kernels keep variances, scales are about 1.

    Args:
      seed: of the generator.
      shape: of the tensor.
      kind: what the weight is called in its layer, such as "kernel" or "gamma".
    """
    spread = 0.02 if len(shape) < 2 else math.prod(shape[:-1]) ** -0.5
    if "embedding" in kind:
        spread = 0.02

    def read() -> np.ndarray:
        values = np.random.default_rng(seed).standard_normal(shape, dtype=np.float32) * spread
        return (values + (kind == "gamma")).astype(np.float32)

    return LazyTensor(shape, np.dtype(np.float32), read)
