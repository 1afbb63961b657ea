"""A hidden folder to make something in; should this process be killed, the next one removes it."""

import contextlib
import glob
import os
import pathlib
import shutil
import tempfile
from collections.abc import Iterator

try:
    import fcntl
except ImportError:  # Windows: what a killed process leaves stays.
    fcntl = None


@contextlib.contextmanager
def temporary_folder(output: pathlib.Path) -> Iterator[pathlib.Path]:
    """Gives an empty hidden folder beside `output`, which is removed if anything fails.

    A process that was killed leaves its folder behind; the next call for the same `output` removes
    it, and leaves those of processes at work alone.

    Args:
      output: what is made; folders above it are made where they are missing. Moving the folder
        there, or removing it, is the caller's.

    Raises:
      OSError: there cannot be a folder beside `output`, which the error then names.
    """
    output.parent.mkdir(parents=True, exist_ok=True)
    _remove_leftovers(output)
    folder, lock = _own_folder(output)
    try:
        folder.chmod(0o755)
        yield folder
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise
    finally:
        if lock is not None:
            os.close(lock)


def _remove_leftovers(output: pathlib.Path) -> None:
    if fcntl is None:
        return
    for folder in output.parent.glob(f".{glob.escape(output.name)}.*.tmp"):
        lock = _locked(folder)
        if lock is not None:  # Nobody is at work in it.
            shutil.rmtree(folder, ignore_errors=True)
            os.close(lock)


def _own_folder(output: pathlib.Path) -> tuple[pathlib.Path, int | None]:
    """Makes a temporary folder beside `output`, and locks it."""
    while True:
        try:
            made = tempfile.mkdtemp(dir=output.parent, prefix=f".{output.name}.", suffix=".tmp")
        except OSError as error:  # Its name says nothing to anybody.
            raise OSError(error.errno, error.strerror, str(output)) from error
        folder = pathlib.Path(made)
        if fcntl is None:
            return folder, None
        lock = _locked(folder)
        if lock is not None:
            if folder.exists():
                return folder, lock
            os.close(lock)  # Before it was locked, another process took it for a leftover.


def _locked(folder: pathlib.Path) -> int | None:
    """Locks a folder for as long as this process lives, or returns None if another has."""
    try:
        handle = os.open(folder, os.O_RDONLY)
    except FileNotFoundError:  # Another process has removed it.
        return None
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(handle)
        return None
    return handle
