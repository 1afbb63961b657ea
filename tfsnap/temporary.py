"""A hidden folder to make something in; should this process be killed, the next one removes it."""

import contextlib
import glob
import os
import pathlib
import shutil
import tempfile
from collections.abc import Iterator

from tfsnap.lock import take


@contextlib.contextmanager
def temporary_folder(
    output: pathlib.Path, *, prefix: str | None = None, suffix: str = ".tmp"
) -> Iterator[pathlib.Path]:
    """Gives an empty hidden folder beside `output`, which is removed if anything fails.

    A process that was killed leaves its folder behind; the next call for such folders removes it,
    and leaves those of processes at work alone.

    Args:
      output: what is made; folders above it are made where they are missing. Moving the folder
        there, or removing it, is the caller's.
      prefix: begins the folder's name; by default it has the output's name, for which alone it is.
      suffix: ends it.

    Raises:
      OSError: there cannot be a folder beside `output`, which the error then names.
    """
    prefix = f".{output.name}." if prefix is None else prefix
    output.parent.mkdir(parents=True, exist_ok=True)
    for left in output.parent.glob(f"{glob.escape(prefix)}*{glob.escape(suffix)}"):
        _remove_leftover(left)
    folder, lock = _own_folder(output, prefix, suffix)
    try:
        folder.chmod(0o755)
        yield folder
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise
    finally:
        if lock is not None:
            os.close(lock)


def _remove_leftover(folder: pathlib.Path) -> None:
    with contextlib.suppress(OSError):  # Without locks nobody knows who is at work in it.
        lock = _locked(folder)
        if lock is not None:  # Nobody is.
            shutil.rmtree(folder, ignore_errors=True)
            os.close(lock)


def _own_folder(output: pathlib.Path, prefix: str, suffix: str) -> tuple[pathlib.Path, int | None]:
    """Makes a temporary folder beside `output`, and locks it where there are locks."""
    while True:
        try:
            made = tempfile.mkdtemp(dir=output.parent, prefix=prefix, suffix=suffix)
        except OSError as error:  # Its name says nothing to anybody.
            raise OSError(error.errno, error.strerror, str(output)) from error
        folder = pathlib.Path(made)
        try:
            lock = _locked(folder)
        except OSError:
            return folder, None
        if lock is not None:
            if folder.exists():
                return folder, lock
            os.close(lock)  # Before it was locked, another process took it for a leftover.


def _locked(folder: pathlib.Path) -> int | None:
    """Locks a folder for as long as this process lives, or returns None if another has.

    Raises:
      OSError: there are no locks here.
    """
    try:
        handle = os.open(folder, os.O_RDONLY)
    except FileNotFoundError:  # Another process has removed it.
        return None
    taken = False
    try:
        taken = take(handle)
    finally:
        if not taken:
            os.close(handle)
    return handle if taken else None
