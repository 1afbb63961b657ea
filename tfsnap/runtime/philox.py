"""Philox4x32-10 and normal noise, the same in every language that reads a bundle.

Philox is a counter-based generator: block i of 4 x 32 random bits is a pure function of i and a
key, so noise needs no state, is vectorised, and is the same on every machine. docs/bundle.md has
the recipe below and test vectors.

Reference: Salmon et al., "Parallel Random Numbers: As Easy as 1, 2, 3", SC 2011, section 5.3.
"""

import math
from collections.abc import Sequence

import numpy as np

_MULTIPLIERS = (np.uint64(0xD2511F53), np.uint64(0xCD9E8D57))
_KEY_INCREMENTS = (0x9E3779B9, 0xBB67AE85)  # The golden ratio and sqrt(3) - 1, as in Random123.
_ROUNDS = 10
_WORD = 0xFFFFFFFF


def philox4x32(*, counter: np.ndarray, key: Sequence[int]) -> np.ndarray:
    """Philox4x32-10: 128 random bits for every counter.

    Args:
      counter: uint32 [N, 4], the blocks to compute, least significant word first.
      key: two 32-bit integers.

    Returns:
      uint32 [N, 4].

    Example:
      >>> words = philox4x32(counter=np.zeros([1, 4], np.uint32), key=(0, 0))
      >>> [f"{word:08x}" for word in words[0]]
      ['6627e8d5', 'e169c58d', 'bc57ac4c', '9b00dbd8']
    """
    c0, c1, c2, c3 = np.asarray(counter, np.uint32).T.astype(np.uint64)
    low, shift = np.uint64(_WORD), np.uint64(32)
    k0, k1 = key
    for _ in range(_ROUNDS):
        product0, product1 = _MULTIPLIERS[0] * c0, _MULTIPLIERS[1] * c2
        c0, c1 = (product1 >> shift) ^ c1 ^ np.uint64(k0), product1 & low
        c2, c3 = (product0 >> shift) ^ c3 ^ np.uint64(k1), product0 & low
        k0, k1 = (k0 + _KEY_INCREMENTS[0]) & _WORD, (k1 + _KEY_INCREMENTS[1]) & _WORD
    return np.stack([c0, c1, c2, c3], axis=-1).astype(np.uint32)


def normal(seed: int, shape: Sequence[int], *, stream: int = 0) -> np.ndarray:
    """Standard normal noise by Philox4x32-10 and Box-Muller.

    The recipe, for numbers n[0], n[1], ... that fill `shape` in row-major order:

    1. key = (seed mod 2^32, seed div 2^32).
    2. Block i, for i = 0, 1, ..., has the counter (i mod 2^32, i div 2^32, stream, 0) and gives
       four words w0 .. w3.
    3. In float64: u_j = (w_j + 0.5) / 2^32, which is never 0 or 1.
    4. In float64: r = sqrt(-2 ln u0), n[4i] = r cos(2 pi u1), n[4i+1] = r sin(2 pi u1);
       r = sqrt(-2 ln u2), n[4i+2] = r cos(2 pi u3), n[4i+3] = r sin(2 pi u3).
    5. Each n is rounded to float32. Surplus numbers of the last block are dropped.

    Mathematical libraries may differ in the last bit of float64, so that once in a great many
    numbers the float32 differs in its last bit.

    Args:
      seed: 0 .. 2^64 - 1.
      shape: shape of the noise.
      stream: 0 .. 2^32 - 1; every stream of a seed is independent of the others. Stream 0 is the
        noise that sampling starts from.

    Returns:
      float32 of the given shape.

    Raises:
      ValueError: `seed` or `stream` is out of range.

    Reference: Box & Muller, "A Note on the Generation of Random Normal Deviates", 1958.
    """
    if not 0 <= seed < 2**64:
        raise ValueError(f"seed is {seed}; it must be between 0 and 2^64 - 1")
    if not 0 <= stream < 2**32:
        raise ValueError(f"stream is {stream}; it must be between 0 and 2^32 - 1")
    size = math.prod(shape)
    blocks = np.arange(-(-size // 4), dtype=np.uint64)
    counter = np.zeros([len(blocks), 4], np.uint32)
    counter[:, 0] = blocks & np.uint64(_WORD)
    counter[:, 1] = blocks >> np.uint64(32)
    counter[:, 2] = stream
    words = philox4x32(counter=counter, key=(seed & _WORD, seed >> 32))
    uniform = (words.reshape(-1, 2) + 0.5) / 2.0**32  # [2 * blocks, 2]: a pair per Box-Muller
    radius = np.sqrt(-2.0 * np.log(uniform[:, 0]))
    angle = 2.0 * np.pi * uniform[:, 1]
    pairs = np.stack([radius * np.cos(angle), radius * np.sin(angle)], axis=-1)
    return pairs.reshape(-1)[:size].astype(np.float32).reshape(shape)
