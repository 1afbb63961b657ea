"""Pictures in a folder and the folders below it."""

import functools
import os
import pathlib
from collections.abc import Iterator

from tfsnap.data.readers import caption_list
from tfsnap.data.readers.caption_list import CaptionList
from tfsnap.data.readers.entry import (
    EVERYTHING,
    PICTURES,
    Entry,
    Skipped,
    found,
    read_file,
    storable,
    tidy_captions,
)

_SIDECAR = ".txt"
_NO_FILE = "listed, but not there"
_CLOSED = "folder cannot be read"
_NOT_UTF8 = "caption is not UTF-8"
_UNREADABLE = "caption cannot be read"


class FolderReader:
    """Reads a folder; see `tfsnap.data.readers.entry.Reader`.

    A picture's captions are those that the list gives it, else the lines of the .txt file beside
    it. Its group is what the list says, else the folder that it lies in, of those in `path`. Names
    that start with a dot are passed over.

    Args:
      path: the folder.
      captions: a CSV, TSV or JSON Lines file with names relative to `path`, see `CaptionList`; by
        default the one in the folder that is called as `caption_list.NAMES` has it, if any.

    Raises:
      ValueError: `path` is no folder, or the list cannot be used, or there are several.
      OSError: the list cannot be read.
    """

    kind = "folder"

    def __init__(self, path: str | os.PathLike, *, captions: str | os.PathLike | None = None):
        self._folder = pathlib.Path(path)
        self.place = str(path)
        if not self._folder.is_dir():
            raise ValueError(f"path is {self.place!r}; it must be a folder of pictures")
        self._closed: list[Skipped] = []  # Folders that cannot be read.
        listed = captions or self._own_list()
        self._list = CaptionList(listed, folder=path) if listed else None

    @functools.cached_property
    def total(self) -> int:
        """How many pictures there are."""
        return sum(1 for _ in self._names())

    def __iter__(self) -> Iterator[Entry | Skipped]:
        if self._list:
            yield from self._list.skipped
        walked = set()
        for name in self._names():
            if self._list and self._list.captions(name):
                walked.add(name)
            yield self._entry(name)
        yield from self._closed
        if self._list:
            # Those that the walk passed over: outside of the folder, or of another suffix.
            for name in self._list.names():
                if name not in walked:
                    there = (self._folder / name).is_file()
                    yield self._entry(name) if there else Skipped(storable(name), _NO_FILE)

    def pictures(self) -> Iterator[Entry]:
        """Every picture below the folder, without captions."""
        for name in self._names():
            yield Entry(storable(name), (), functools.partial(read_file, self._folder / name))

    def _names(self) -> Iterator[str]:
        """Relative names of the pictures, folder by folder, each sorted."""
        self._closed, seen = [], set()

        def note(error: OSError) -> None:
            name = os.path.relpath(error.filename, self._folder)
            self._closed.append(Skipped(storable(name), _CLOSED))

        for folder, folders, files in os.walk(self._folder, onerror=note, followlinks=True):
            real = os.path.realpath(folder)
            if real in seen:  # A link to a folder that it lies in.
                folders.clear()
                continue
            seen.add(real)
            folders[:] = sorted(name for name in folders if not name.startswith("."))
            for file in sorted(files):
                if not file.startswith(".") and os.path.splitext(file)[1].lower() in PICTURES:
                    yield os.path.relpath(os.path.join(folder, file), self._folder)

    def _entry(self, name: str) -> Entry | Skipped:
        path = self._folder / name
        captions = self._list.captions(name) if self._list else ()
        if not captions:
            try:
                captions = self._sidecar(path)
            except UnicodeDecodeError:
                return Skipped(storable(name), _NOT_UTF8)
            except OSError:
                return Skipped(storable(name), _UNREADABLE)
        group = self._list.group(name) if self._list else None
        return found(name, captions, functools.partial(read_file, path), group or _group(name))

    def _sidecar(self, path: pathlib.Path) -> tuple[str, ...]:
        """The captions in "x.txt" beside "x.jpg", one a line."""
        try:
            text = path.with_suffix(_SIDECAR).read_text(encoding="utf-8-sig")
        except FileNotFoundError:
            return ()
        return tidy_captions(text.splitlines())

    def _own_list(self) -> pathlib.Path | None:
        there = [self._folder / name for name in caption_list.NAMES]
        there = [path for path in there if path.is_file()]
        if len(there) > 1:
            names = " and ".join(path.name for path in there)
            raise ValueError(f"{self._folder} has {names}: say which by --captions=FILE")
        return there[0] if there else None


def _group(name: str) -> str:
    parts = pathlib.PurePath(name).parts
    inside = len(parts) > 1 and parts[0] not in ("..", os.sep)
    return storable(parts[0]) if inside else EVERYTHING
