"""One process at a time."""

import contextlib
import errno
import os
import pathlib
from collections.abc import Iterator

from tfsnap.errors import TfsnapError

try:
    import fcntl
except ImportError:  # Windows: two builds of the same thing at once get in each other's way.
    fcntl = None

LOCK = ".lock"  # In a workdir, while a program is at work in it.


class BusyError(TfsnapError, RuntimeError):
    """Another process is at work in a folder; the message has its number."""


def take(handle: int) -> bool:
    """Locks an open file or folder until it is closed, or returns False if another process has.

    The lock ends with its process, however that ends.

    Raises:
      OSError: there are no locks here.
    """
    if fcntl is None:
        raise OSError(errno.ENOTSUP, os.strerror(errno.ENOTSUP))
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


@contextlib.contextmanager
def locked(path: str | os.PathLike) -> Iterator[None]:
    """Waits until no other process is in here with the same file, which stays behind, empty."""
    path = pathlib.Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "a") as file:
        if fcntl is not None and not take(file.fileno()):
            print(f"Waiting for another process that holds {path}", flush=True)
            fcntl.flock(file, fcntl.LOCK_EX)
        yield


@contextlib.contextmanager
def alone_in(workdir: str | os.PathLike) -> Iterator[None]:
    """Keeps other processes out of a workdir, which is made where it is missing.

    At the end the lock goes, and the workdir if it was made and got nothing. The lock of a process
    that was killed keeps nobody out, and where a file system knows no locks nobody is kept out.

    Raises:
      BusyError: another process is in it.
      OSError: it cannot be made, or nothing be written into it.
    """
    workdir = pathlib.Path(workdir).absolute()  # The caller may change to another folder.
    if workdir.exists() and not workdir.is_dir():
        raise NotADirectoryError(f"the workdir {workdir} is a file: name a folder")
    made = [folder for folder in (workdir, *workdir.parents) if not folder.exists()]
    workdir.mkdir(parents=True, exist_ok=True)
    handle = _claim(workdir)
    try:
        yield
    finally:
        with contextlib.suppress(OSError):
            (workdir / LOCK).unlink()  # While it is locked: afterwards it may be another's.
        os.close(handle)
        with contextlib.suppress(OSError):  # Something is in it.
            for folder in made:
                folder.rmdir()


def _claim(workdir: pathlib.Path) -> int:
    """Opens and locks a workdir's lock, and notes whose it is."""
    path = workdir / LOCK
    while True:
        handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
        if not _taken_or_no_locks(handle):
            number = os.read(handle, 20).decode().strip()
            os.close(handle)
            who = f"another process, pid {number}," if number else "another process"
            raise BusyError(f"{who} is at work in {workdir}: wait for it, or use another --workdir")
        if _is(handle, path):
            with contextlib.suppress(OSError):  # On a full disk nobody is told the number.
                os.truncate(handle, 0)
                os.write(handle, f"{os.getpid()}\n".encode())
            return handle
        os.close(handle)  # Its owner removed it before it was locked.


def _taken_or_no_locks(handle: int) -> bool:
    try:
        return take(handle)
    except OSError:  # Without locks nobody knows who is at work.
        return True


def _is(handle: int, path: pathlib.Path) -> bool:
    """Whether a path still leads to an open file."""
    try:
        return os.path.samestat(os.fstat(handle), path.stat())
    except FileNotFoundError:
        return False
