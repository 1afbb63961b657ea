"""One process at a time."""

import contextlib
import os
import pathlib
from collections.abc import Iterator

try:
    import fcntl
except ImportError:  # Windows: two builds of the same thing at once get in each other's way.
    fcntl = None


@contextlib.contextmanager
def locked(path: str | os.PathLike) -> Iterator[None]:
    """Waits until no other process is in here with the same file, which stays behind, empty.

    The lock ends with its process, however that ends.
    """
    path = pathlib.Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "a") as file:
        if fcntl is not None:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                print(f"Waiting for another process that holds {path}", flush=True)
                fcntl.flock(file, fcntl.LOCK_EX)
        yield
