"""Random weights that are made when they are read: networks of full size, to be measured."""

import math
from collections.abc import Iterable

import numpy as np
import tensorflow as tf

from tfsnap.weights.lazy import LazyTensor
from tfsnap.weights.store import addressed


def random_values(variables: Iterable[tf.Variable]) -> dict[str, LazyTensor]:
    """Returns weights of the sizes that training starts with, the same in every process.

    Args:
      variables: of a network; they may hold nothing.

    Returns:
      float32 tensors by address. Kernels keep variances, scales are about 1.
    """
    return {
        address: random_tensor(seed, tuple(variable.shape), address.rpartition(".")[2])
        for seed, (address, variable) in enumerate(addressed(variables).items())
    }


def random_tensor(seed: int, shape: tuple[int, ...], kind: str) -> LazyTensor:
    """Returns a float32 weight of the size that training starts with.

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
