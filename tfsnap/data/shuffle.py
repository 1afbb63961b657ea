"""The order of examples, without TensorFlow: its keyed permutation in numpy.

`RandomIndexShuffle` has no XLA kernel, and a training step that has left TensorFlow (see
`tfsnap.training.portable_runner`) must see the examples in the same order.
"""

import functools

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
    tape = first_step * batch_size + np.arange(steps * batch_size, dtype=np.int64)
    epochs, places = tape // len(index), tape % len(index)
    rows = np.empty(len(tape), np.int32)
    for epoch in np.unique(epochs):
        here = epochs == epoch
        rows[here] = index[epoch_order(len(index), seed, int(epoch))[places[here]]]
    return rows.reshape(steps, batch_size)


@functools.lru_cache(maxsize=2)  # A batch may span two epochs.
def epoch_order(size: int, seed: int, epoch: int) -> np.ndarray:
    """Where each place of an epoch lies after its shuffle: a permutation of 0 .. size - 1.

    Equals `tf.raw_ops.RandomIndexShuffle` of all places with the seed (seed, epoch, 0) and four
    rounds: the block cipher Simon on the smallest even number of bits that holds all places, 16 at
    least, applied until the result is a place.

    Args:
      size: number of places.
      seed: of all epochs.
      epoch: number of the epoch.

    Returns:
      int64 [size].

    Reference: Beaulieu et al. 2013, "The SIMON and SPECK families of lightweight block ciphers";
    Black & Rogaway 2002, "Ciphers with arbitrary finite domains" (cycle walking).
    """
    bits = max(_MIN_BITS, (size - 2).bit_length())
    half = (bits + bits % 2) // 2
    following = _encrypt(np.arange(4**half, dtype=np.int64), _round_keys(seed, epoch, half), half)
    # Walk all cycles at once. Who has not reached a place yet goes as far as its follower has come.
    while (following[:size] >= size).any():
        following = np.where(following < size, following, following[following])
    # TensorFlow takes the bits from the logarithm of size - 1: one place too few if that is 2^bits.
    return following[np.arange(size) % len(following)]


def _round_keys(seed: int, epoch: int, half: int) -> tuple[int, ...]:
    """Simon's keys for words of `half` bits. The third word of TensorFlow's seed is 0."""
    mask = (1 << half) - 1
    return seed & mask, epoch & mask, 0, (seed ^ _CONSTANT ^ (_SEQUENCE & 1)) & mask


def _encrypt(values: np.ndarray, keys: tuple[int, ...], half: int) -> np.ndarray:
    mask = (1 << half) - 1

    def mixed(x: np.ndarray) -> np.ndarray:
        once, twice, eight = (((x << r) | (x >> (half - r))) & mask for r in (1, 2, 8))
        return (once & eight) ^ twice

    left, right = values >> half, values & mask
    for even, odd in zip(keys[::2], keys[1::2], strict=True):
        left = left ^ mixed(right) ^ even
        right = right ^ mixed(left) ^ odd
    return (left << half) | right
