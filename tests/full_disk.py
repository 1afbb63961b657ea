"""A disk with hardly any room, for this process."""

import contextlib
import resource


@contextlib.contextmanager
def full_disk(room=100):
    """Inside, the system refuses whatever would make a file longer than `room` bytes.

    It calls that "File too large" and not "No space left on device", and is as real a failure.
    """
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (room, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
