"""The order of examples, without TensorFlow: its keyed permutation in numpy.

`RandomIndexShuffle` has no XLA kernel, and a training step that has left TensorFlow (see
`tfsnap.training.portable_runner`) must see the examples in the same order.
"""

import numpy as np

ROUNDS = 4
_MIN_BITS = 16  # The smallest block of the cipher.
_CONSTANT = 0xFFFFFFFC  # Of Simon's key schedule; so is the next.
_SEQUENCE = 0x7369F885192C0EF5


def rows_of_steps(
    index: np.ndarray, *, seed: int, first_step: int, steps: int, batch_size: int
) -> np.ndarray:
    """The rows that `tfsnap.data.source.BatchSource` draws for consecutive steps.

    Args:
      index: int [M], the rows of an epoch.
      seed: of the order.
      first_step: the first of the steps.
      steps: how many.
      batch_size: rows in a batch.

    Returns:
      int32 [steps, batch_size].
    """
    places = first_step * batch_size + np.arange(steps * batch_size, dtype=np.int64)
    shuffled = shuffle_index(
        places % len(index), seed=seed, epochs=places // len(index), size=len(index)
    )
    return index[shuffled].astype(np.int32).reshape(steps, batch_size)


def shuffle_index(places: np.ndarray, *, seed: int, epochs: np.ndarray, size: int) -> np.ndarray:
    """Where places lie after the shuffle of their epoch: a permutation of 0 .. size - 1.

    Equals `tf.raw_ops.RandomIndexShuffle` with the seed (seed, epoch, 0) and four rounds: the block
    cipher Simon on the smallest even number of bits that holds all places, 16 at least, applied
    until the result is a place.

    Args:
      places: int64 [N], from 0 to size - 1.
      seed: of all epochs.
      epochs: int64 [N], the epoch of each place.
      size: number of places in an epoch.

    Returns:
      int64 [N].

    Reference: Beaulieu et al. 2013, "The SIMON and SPECK families of lightweight block ciphers";
    Black & Rogaway 2002, "Ciphers with arbitrary finite domains" (cycle walking).
    """
    bits = max(_MIN_BITS, int(np.ceil(np.log2(max(size - 1, 1)))))
    half = (bits + bits % 2) // 2
    keys = _round_keys(seed, epochs, half)
    values = places.copy()
    outside = np.ones(len(values), bool)
    while outside.any():
        values[outside] = _encrypt(values[outside], keys[:, outside], half)
        outside = values >= size
    return values


def _round_keys(seed: int, epochs: np.ndarray, half: int) -> np.ndarray:
    """Simon's keys for words of `half` bits, int64 [ROUNDS, N]."""
    mask = (1 << half) - 1
    seeds = np.full(len(epochs), seed & mask, np.int64)
    zeros = np.zeros_like(seeds)  # The third word of the seed, and what is made of it.
    fourth = seeds ^ (_CONSTANT & mask) ^ (_SEQUENCE & 1)
    return np.stack([seeds, epochs & mask, zeros, fourth])


def _encrypt(values: np.ndarray, keys: np.ndarray, half: int) -> np.ndarray:
    mask = (1 << half) - 1

    def mixed(x: np.ndarray) -> np.ndarray:
        once, twice, eight = (((x << r) | (x >> (half - r))) & mask for r in (1, 2, 8))
        return (once & eight) ^ twice

    left, right = values >> half, values & mask
    for even, odd in zip(keys[::2], keys[1::2], strict=True):
        left = left ^ mixed(right) ^ even
        right = right ^ mixed(left) ^ odd
    return (left << half) | right
