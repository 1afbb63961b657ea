"""Freed memory: kept by training, which needs it again, and given back by exports.

Without the GNU C library nothing is done.
"""

import ctypes
import sys
from collections.abc import Callable

# Parameters of glibc's mallopt(3) and the values wanted of them.
_TRIM_THRESHOLD, _TOP_PAD, _MMAP_THRESHOLD, _ARENA_MAX = -1, -2, -3, -8
_OPTIONS = {
    _TRIM_THRESHOLD: 2**31 - 1,  # Give nothing back to the system below 2 GB,
    _TOP_PAD: 256 * 2**20,  # ask for it in pieces of 256 MB,
    _MMAP_THRESHOLD: 32 * 2**20,  # the most that glibc allows,
    _ARENA_MAX: 1,  # and from one heap: those of threads are trimmed all the same.
}


def keep_freed_memory() -> None:
    """Tells glibc to keep what is freed. Call it before TensorFlow starts its threads.

    A step on the CPU allocates and frees every activation. By default glibc returns much of that to
    the system, which clears each page again at the next step: more than half of the time of a small
    network's training.
    """
    mallopt = _glibc("mallopt")
    if mallopt is not None:
        for option, value in _OPTIONS.items():
            mallopt(option, value)


def return_freed_memory() -> None:
    """Tells glibc to give back what is freed and still held.

    By default it keeps what lies between pieces that are in use: after Stable Diffusion's UNet in
    float32 1.7 GB of its 3.4 (by a throw-away script).
    """
    trim = _glibc("malloc_trim")
    if trim is not None:
        trim(0)


def _glibc(name: str) -> Callable[..., int] | None:
    """A function of the C library; None where it has none of that name."""
    return getattr(ctypes.CDLL(None), name, None) if sys.platform == "linux" else None
