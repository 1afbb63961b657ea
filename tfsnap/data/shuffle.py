"""Which rows an epoch has and in what order, without TensorFlow: its keyed permutation in numpy.

`RandomIndexShuffle` has no XLA kernel, and a training step that has left TensorFlow (see
`tfsnap.training.portable_runner`) must see the examples in the same order.
"""

import functools
from typing import TypeVar

import numpy as np

ROUNDS = 4
_MIN_BITS = 16  # The smallest block of the cipher.
_CONSTANT = 0xFFFFFFFC  # Of Simon's key schedule; so is the next.
_SEQUENCE = 0x7369F885192C0EF5
# Of splitmix64: its increment and its two multipliers.
_GOLDEN = 0x9E3779B97F4A7C15
_MULTIPLIERS = (0xBF58476D1CE4E5B9, 0x94D049BB133111EB)
_WORD_BITS = 21

Words = TypeVar("Words")  # uint64 [K]: a numpy array or a tensor.


def sampling_index(groups: np.ndarray, *, resample: float, seed: int) -> np.ndarray:
    """Repeats examples of small groups so that an epoch is more evenly divided.

    A group's share of the index is n^(1 - resample) over the sum of that over all groups, where n
    is its number of examples. Every example occurs at least once, and examples of one group occur
    equally often up to one; which ones occur once more is drawn.

    Args:
      groups: int [N], the group of each example.
      resample: 0.0 keeps the natural shares, 1.0 makes all groups equal.
      seed: chooses the examples that are repeated once more than others.

    Returns:
      int64 [M], M >= N, row numbers in ascending order (`BatchSource` shuffles).

    Raises:
      ValueError: `resample` is outside 0..1 or there are no examples.
    """
    if not 0.0 <= resample <= 1.0:
        raise ValueError(f"resample is {resample}; it must be from 0 (natural) to 1 (uniform)")
    if len(groups) == 0:
        raise ValueError("There are no examples to sample: choose a larger subset")
    names, counts = np.unique(groups, return_counts=True)
    targets = counts ** (1.0 - resample)
    # The group that is over-represented most keeps its size; the others grow to match it.
    targets = np.rint(targets * np.max(counts / targets)).astype(np.int64)
    random = np.random.default_rng(seed)
    rows = []
    for name, count, target in zip(names, counts, targets, strict=True):
        members = np.flatnonzero(groups == name)
        rows.append(np.tile(members, target // count))
        rows.append(random.choice(members, target % count, replace=False))
    return np.sort(np.concatenate(rows)).astype(np.int64)


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

    Equals `tf.raw_ops.RandomIndexShuffle` of all places with the seed `epoch_keys` and four
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


def epoch_keys(seed: int, epochs: Words) -> list[Words]:
    """Mixes a seed and the numbers of epochs into the three words that key a shuffle.

    Simon sees only the lowest bits of a word, 8 of them for up to 65,536 places; numbers used as
    they are would repeat the order every 256 epochs.

    Args:
      seed: any integer.
      epochs: uint64 [K], an array or a tensor: the arithmetic is the same, modulo 2^64.

    Returns:
      Three words, uint64 [K], each below 2^22.

    Reference: Steele et al. 2014, "Fast splittable pseudorandom number generators" (splitmix64).
    """
    offset = (seed * _MULTIPLIERS[0] + _GOLDEN) % 2**64
    mixed = epochs * np.uint64(_GOLDEN) + np.uint64(offset)
    # Tensors have no operator for shifts.
    for bits, multiplier in zip((30, 27), _MULTIPLIERS, strict=True):
        mixed = (mixed ^ (mixed // np.uint64(2**bits))) * np.uint64(multiplier)
    mixed = mixed ^ (mixed // np.uint64(2**31))
    word = np.uint64(2**_WORD_BITS)
    return [mixed % word, mixed // word % word, mixed // word // word]


def _round_keys(seed: int, epoch: int, half: int) -> tuple[int, ...]:
    """Simon's keys for words of `half` bits."""
    mask = (1 << half) - 1
    first, *others, last = (
        int(word[0]) & mask for word in epoch_keys(seed, np.array([epoch], np.uint64))
    )
    turned = _rotated(last, half - 3, half) ^ _rotated(last, half - 4, half)
    return first, *others, last, (first ^ turned ^ _CONSTANT ^ (_SEQUENCE & 1)) & mask


def _rotated(x: Words, places: int, half: int) -> Words:
    """Rotates words of `half` bits to the left."""
    return ((x << places) | (x >> (half - places))) & ((1 << half) - 1)


def _encrypt(values: np.ndarray, keys: tuple[int, ...], half: int) -> np.ndarray:
    def mixed(x: np.ndarray) -> np.ndarray:
        once, twice, eight = (_rotated(x, places, half) for places in (1, 2, 8))
        return (once & eight) ^ twice

    left, right = values >> half, values & ((1 << half) - 1)
    for even, odd in zip(keys[::2], keys[1::2], strict=True):
        left = left ^ mixed(right) ^ even
        right = right ^ mixed(left) ^ odd
    return (left << half) | right
