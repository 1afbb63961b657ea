"""Networks of twice the channels that compute what narrow ones do."""

import numpy as np

from tfsnap.weights.store import addressed


def values_of(model):
    return {name: variable.numpy() for name, variable in addressed(model.variables).items()}


def widened(small, shape, *, idle=False):
    """A weight of twice the channels, of which every second repeats the one before, unread.

    Twice the same value has the mean and variance of the value alone, so norms stay what they are.
    Where no norm sees it, every second may be idle instead.
    """
    if small.shape == shape:
        return small
    wide = np.repeat(small, shape[-1] // small.shape[-1], axis=-1)
    if wide.ndim > 1 and wide.shape[-2] != shape[-2]:
        read, wide = wide, np.zeros(shape, np.float32)
        wide[..., ::2, :] = read
    return wide * (np.arange(shape[-1]) % 2 == 0) if idle else wide


def scaled_query(wide):
    """Scores are divided by the root of twice the width."""
    return wide * np.sqrt(2, dtype=np.float32)
