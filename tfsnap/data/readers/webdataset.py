"""Pictures in tar files, as WebDataset and img2dataset write them.

Members that have the same name up to its first dot are one example: "0001.jpg", "0001.txt",
"0001.json".
"""

import glob
import io
import itertools
import json
import os
import pathlib
import re
import tarfile
import zlib
from collections.abc import Callable, Iterator
from lzma import LZMAError
from typing import Any

from tfsnap.data.readers.entry import (
    PICTURES,
    Entry,
    Skipped,
    UnusableError,
    check_size,
    found,
    storable,
    tidy_captions,
)

_RANGE = re.compile(r"\{(\d+)\.\.(\d+)\}")
_LIST = re.compile(r"\{([^{}]*,[^{}]*)\}")
_TEXTS = (".txt", ".caption", ".text")
_READ = frozenset((*PICTURES, *_TEXTS, ".json"))
_DAMAGED = "damaged or truncated tar"
_NO_PICTURE = "no picture in the example"
_TWICE = "name occurs twice in its tar"
_ERRORS = (tarfile.TarError, EOFError, OSError, ValueError, zlib.error, LZMAError)


class WebDatasetReader:
    """Reads tars; see `tfsnap.data.readers.entry.Reader`.

    The caption is the member .txt, one a line; else that of .json (`caption`, `text`, `captions`).
    What follows a damaged place in a tar is read again from the next whole member on.

    Args:
      path: one or several .tar, .tar.gz, ... files: a glob, or shards as in
        "pictures-{0000..0099}.tar", "{a,b}.tar".

    Raises:
      ValueError: a file is not there.
    """

    kind = "webdataset"
    total = None  # Known at the end.

    def __init__(self, path: str):
        self.place = path
        self._tars = expand(path)
        parents = {os.path.dirname(os.path.abspath(tar)) for tar in self._tars}
        self._parent = os.path.commonpath(parents)

    def __iter__(self) -> Iterator[Entry | Skipped]:
        for tar in self._tars:
            yield from self._examples(tar)

    def _examples(self, tar: str) -> Iterator[Entry | Skipped]:
        place = os.path.relpath(os.path.abspath(tar), self._parent)
        seen = set()
        problems: list[Skipped] = []
        members = _members(tar, place, problems)
        for key, group in itertools.groupby(members, key=lambda member: _split(member[0])[0]):
            example = {_split(name)[1]: content for name, content in group}
            yield from problems
            problems.clear()
            name = f"{place}/{key}"
            yield Skipped(storable(name), _TWICE) if key in seen else _entry(name, example)
            seen.add(key)
        yield from problems


def expand(path: str) -> list[str]:
    """The files that a pattern stands for, sorted where it has a star.

    Raises:
      ValueError: one is not there.

    Example:
      >>> expand("pictures-{08..10}.tar")
      ['pictures-08.tar', 'pictures-09.tar', 'pictures-10.tar']
    """
    names = [path]
    for pattern, choices in ((_RANGE, _numbers), (_LIST, lambda match: match[1].split(","))):
        while pattern.search(names[0]):
            # No lambda around the match: every name has its own.
            names = [
                name[: match.start()] + choice + name[match.end() :]
                for name in names
                for match in [pattern.search(name)]
                for choice in choices(match)
            ]
    files = [file for name in names for file in sorted(glob.glob(name)) or [name]]
    missing = [file for file in files if not os.path.isfile(file)]
    if missing:
        raise ValueError(
            f"path is {path!r}: {len(missing)} of {len(files)} tar files are not there, the first "
            f"is {missing[0]!r}"
        )
    return list(dict.fromkeys(files))


def _numbers(match: re.Match) -> list[str]:
    first, last = match.groups()
    return [f"{number:0{len(first)}d}" for number in range(int(first), int(last) + 1)]


def _members(
    tar: str, place: str, problems: list[Skipped]
) -> Iterator[tuple[str, bytes | UnusableError]]:
    """Names and contents of a tar's files, in its order; what is damaged goes to `problems`."""

    def report(where: str) -> None:
        if not problems:  # One for each damaged stretch.
            where = " ".join(storable(where).split())[:80]
            problems.append(Skipped(f"{place} ({where})", _DAMAGED))

    try:
        # Zeros are passed over, and with them whatever is no header: the rest is read all the same.
        header = _headers(report)
        with tarfile.open(tar, tarinfo=header, ignore_zeros=True) as archive:
            size = os.path.getsize(tar)
            while (member := _next(archive, size, report)) is not None:
                if member.isreg():
                    wanted = _split(member.name)[1] in _READ
                    yield member.name, _content(archive, member) if wanted else b""
        if not header.at_end:
            report("it has no end")
    except _ERRORS as error:
        report(str(error))


def _next(
    archive: tarfile.TarFile, size: int, report: Callable[[str], None]
) -> tarfile.TarInfo | None:
    """The next member, also behind a damaged place of a tar that is not compressed."""
    archive.members = []  # It keeps them all.
    while True:
        try:
            return archive.next()
        except (tarfile.ReadError, ValueError) as error:
            if not isinstance(archive.fileobj, io.BufferedReader) or archive.offset >= size:
                raise
            report(f"{error} at byte {archive.offset}")
            archive.offset += tarfile.BLOCKSIZE


def _headers(report: Callable[[str], None]) -> type[tarfile.TarInfo]:
    """A type of headers that tells of those that `tarfile` passes over in silence."""

    class Header(tarfile.TarInfo):
        at_end = False  # Whether the last one was that of the archive's end.

        @classmethod
        def fromtarfile(cls, archive: tarfile.TarFile) -> tarfile.TarInfo:
            try:
                header = super().fromtarfile(archive)
            except tarfile.EOFHeaderError:
                cls.at_end = True
                raise
            except (tarfile.InvalidHeaderError, tarfile.TruncatedHeaderError) as error:
                report(f"{error} at byte {archive.offset}")
                raise
            cls.at_end = False
            return header

    return Header


def _content(archive: tarfile.TarFile, member: tarfile.TarInfo) -> bytes | UnusableError:
    try:
        check_size(member.size)
    except UnusableError as error:
        return error
    content = archive.extractfile(member).read()
    if len(content) != member.size:
        raise tarfile.ReadError(f"{member.name} is cut short")
    return content


def _split(name: str) -> tuple[str, str]:
    """("a/0001", ".jpg") of "a/0001.jpg": WebDataset's keys end at the first dot."""
    path = pathlib.PurePosixPath(name)
    stem, _, suffix = path.name.partition(".")
    return str(path.with_name(stem)) if stem else name, f".{suffix.lower()}"


def _entry(name: str, example: dict[str, bytes | UnusableError]) -> Entry | Skipped:
    pictures = [suffix for suffix in example if suffix in PICTURES]
    if not pictures:
        return Skipped(storable(name), _NO_PICTURE)
    picture = example[pictures[0]]
    if isinstance(picture, UnusableError):
        return Skipped(storable(name + pictures[0]), str(picture))
    return found(name + pictures[0], _captions(example), lambda: picture)


def _captions(example: dict[str, Any]) -> tuple[str, ...]:
    for suffix in _TEXTS:
        if isinstance(example.get(suffix), bytes):
            captions = tidy_captions(example[suffix].decode("utf-8-sig", "replace").splitlines())
            if captions:
                return captions
    try:
        return tidy_captions(json.loads(example.get(".json", b"")))
    except (TypeError, ValueError, RecursionError):
        return ()
