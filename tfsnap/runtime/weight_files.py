"""Files of arranged weights in a folder: each whole and as it was written, or not there.

Whoever reads them does not notice damage. So the name of each ends in its checksum.
"""

import contextlib
import glob
import os
import pathlib
import shutil
from collections.abc import Iterator

from tfsnap.checksum import file_sha256, file_sha256_once
from tfsnap.runtime.errors import RequestError
from tfsnap.temporary import temporary_folder

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
            # Once a process: with little memory, networks are loaded for every picture.
            if file == _named(cache, file_sha256_once(file)):
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
    with temporary_folder(cache, prefix=_PARTIAL, suffix="") as folder:
        _require_room(cache.parent, room)
        partial = folder / cache.name
        yield partial
        if partial.exists():
            os.replace(partial, _named(cache, file_sha256(partial)))
        shutil.rmtree(folder, ignore_errors=True)


def _named(cache: pathlib.Path, checksum: str) -> pathlib.Path:
    return cache.with_name(f"{cache.stem}-{checksum[:_DIGITS]}{cache.suffix}")


def _require_room(folder: pathlib.Path, room: int) -> None:
    free = shutil.disk_usage(folder).free
    if free < room:
        raise RequestError(
            f"The weight cache {folder} has {free // _MB} MB free and needs up to "
            f"{-(-room // _MB)}: make room, or name another folder"
        )
