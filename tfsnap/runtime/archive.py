"""Bundles of one file: a zip whose members are stored, each on a page of its own."""

import os
import pathlib
import shutil
import struct
import zipfile
from typing import BinaryIO

from tfsnap.runtime.manifest import MANIFEST
from tfsnap.runtime.storage import SUFFIX, told_as_damage

# Pages of Apple's processors and of newer Android phones; a multiple of the 4096 of all others.
PAGE = 16384
_FIXED_HEADER = 30  # Bytes of a member's header before its name; two lengths end it.
_LENGTHS = struct.Struct("<HH")
_PADDING = struct.Struct("<HHH")  # An extra field: its kind, its size, then the alignment.
_ALIGNMENT_FIELD = 0xD935  # The kind of field that Android's signing tool pads with.


def write_archive(folder: pathlib.Path, path: pathlib.Path) -> None:
    """Writes a bundle's folder as one file, which is left incomplete if that fails.

    The manifest comes first. The data of every member begin at a multiple of `PAGE`, so that any
    program can map a network into memory where it lies.

    Args:
      folder: the bundle.
      path: the archive.

    Raises:
      OSError: there is no space left, or a file cannot be read.
    """
    files = sorted(file for file in folder.rglob("*") if file.is_file())
    files.sort(key=lambda file: file != folder / MANIFEST)  # Stable: the others stay in order.
    with zipfile.ZipFile(path, "w") as archive:
        for file in files:
            _add(archive, file, file.relative_to(folder).as_posix())


def read_archive(path: pathlib.Path, folder: pathlib.Path) -> None:
    """Writes the members of an archive that `open_storage` accepts as files of a folder.

    Raises:
      BundleError: a member is damaged, which may be one that the manifest does not name.
      OSError: there is no space left, or one member is the folder of another.
    """
    with told_as_damage(path), zipfile.ZipFile(path) as archive:
        archive.extractall(folder)


def data_offset(file: BinaryIO, member: zipfile.ZipInfo) -> int:
    """Returns where in the archive the data of a member begin.

    Args:
      file: the archive, open for reading.
      member: an entry of its directory; the header before the data may be longer than that says.
    """
    file.seek(member.header_offset + _FIXED_HEADER - _LENGTHS.size)
    name, extra = _LENGTHS.unpack(file.read(_LENGTHS.size))
    return member.header_offset + _FIXED_HEADER + name + extra


def _add(archive: zipfile.ZipFile, file: pathlib.Path, name: str) -> None:
    # The date is always the same, so that equal bundles are equal files.
    member = zipfile.ZipInfo(name)
    member.external_attr = 0o644 << 16
    member.file_size = file.stat().st_size
    # Near 2 GiB and beyond, zipfile adds a field of 20 bytes of its own.
    own = 20 if member.file_size * 1.05 > zipfile.ZIP64_LIMIT else 0
    start = archive.fp.tell() + _FIXED_HEADER + len(name.encode()) + own + _PADDING.size
    padding = -start % PAGE
    member.extra = _PADDING.pack(_ALIGNMENT_FIELD, 2 + padding, PAGE) + b"\0" * padding
    with file.open("rb") as source, archive.open(member, "w") as target:
        shutil.copyfileobj(source, target, 1 << 20)
    member.extra = b""  # The directory at the archive's end needs no padding.


def is_archive_name(path: str | os.PathLike) -> bool:
    """Whether a bundle of this name is to be one file."""
    return pathlib.Path(path).suffix == SUFFIX
