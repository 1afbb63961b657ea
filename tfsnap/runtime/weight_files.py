"""Files of arranged weights in a folder: each whole and as it was written, or not there.

Whoever reads them does not notice damage. So the name of each ends in its checksum.
"""

import contextlib
import functools
import glob
import hashlib
import os
import pathlib
import shutil
import tempfile
from collections.abc import Iterator

from tfsnap.runtime.errors import RequestError

try:
    import fcntl
except ModuleNotFoundError:  # Windows.
    fcntl = None

_PARTIAL = ".partial-"  # Begins the names of folders in which files are written.
_DIGITS = 32  # Of a checksum in a name.
_MB = 10**6


def find(cache: pathlib.Path) -> pathlib.Path | None:
    """The file that `writing` left; one that was damaged since is removed.

    Args:
      cache: its folder and its name but for the checksum.

    Raises:
      OSError: it cannot be read, or not be removed.
    """
    pattern = f"{glob.escape(cache.stem)}-{'[0-9a-f]' * _DIGITS}{cache.suffix}"
    for file in sorted(cache.parent.glob(pattern)):
        with contextlib.suppress(FileNotFoundError):  # Another process removed it.
            about = file.stat()
            checksum = _sha256(file, about.st_ino, about.st_size, about.st_mtime_ns)
            if file == _named(cache, checksum):
                return file
            file.unlink()
    return None


@contextlib.contextmanager
def writing(cache: pathlib.Path, *, room: int) -> Iterator[pathlib.Path]:
    """A path to write to; the file is found once the block is left, and gone if that fails.

    Folders of processes that died while they wrote are removed.

    Args:
      cache: as for `find`.
      room: bytes that may be needed.

    Raises:
      RequestError: there is less room.
      OSError: the folder cannot be written.
    """
    with contextlib.ExitStack() as stack:
        # Nobody else looks for folders to remove until this one is held.
        with _hold(cache.parent, wait=True) as alone:
            if alone:
                _sweep(cache.parent)
            _require_room(cache.parent, room)
            making = tempfile.TemporaryDirectory(dir=cache.parent, prefix=_PARTIAL)
            folder = pathlib.Path(stack.enter_context(making))
            stack.enter_context(_hold(folder))
        partial = folder / cache.name
        yield partial
        if partial.exists():
            with partial.open("rb") as file:
                checksum = hashlib.file_digest(file, "sha256").hexdigest()
            os.replace(partial, _named(cache, checksum))


def _named(cache: pathlib.Path, checksum: str) -> pathlib.Path:
    return cache.with_name(f"{cache.stem}-{checksum[:_DIGITS]}{cache.suffix}")


@functools.lru_cache
def _sha256(file: pathlib.Path, *identity: int) -> str:
    """Once a process for each file: with little memory, networks are loaded for every picture."""
    del identity  # By which another file of that name is told.
    with file.open("rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()


def _require_room(folder: pathlib.Path, room: int) -> None:
    free = shutil.disk_usage(folder).free
    if free < room:
        raise RequestError(
            f"The weight cache {folder} has {free // _MB} MB free and needs up to "
            f"{-(-room // _MB)}: make room, or name another folder"
        )


def _sweep(parent: pathlib.Path) -> None:
    """Removes the folders of processes that died."""
    for folder in parent.glob(f"{_PARTIAL}*"):
        with _hold(folder) as free:
            if free:
                shutil.rmtree(folder, ignore_errors=True)


@contextlib.contextmanager
def _hold(folder: pathlib.Path, *, wait: bool = False) -> Iterator[bool]:
    """Holds a folder inside of the block, or as long as the process lives.

    Args:
      folder: what to hold.
      wait: whether to wait until nobody else does.

    Yields:
      Whether it is held: not if somebody else does, or if the system cannot.
    """
    with contextlib.ExitStack() as stack:
        try:
            handle = os.open(folder, os.O_RDONLY)
            stack.callback(os.close, handle)
            fcntl.flock(handle, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
            held = True
        except (OSError, AttributeError):
            held = False
        yield held
