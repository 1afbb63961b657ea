"""Keeps freed memory in the process, so that training does not spend its time in the kernel."""

import ctypes
import sys

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
    network's training. Without glibc nothing is done.
    """
    if sys.platform != "linux":
        return
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        for option, value in _OPTIONS.items():
            mallopt(option, value)
