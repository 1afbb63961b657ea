"""Files that list pictures with their captions: CSV, TSV, JSON Lines."""

import csv
import json
import os
import pathlib
from collections.abc import Iterator
from typing import Any

from tfsnap.data.readers.entry import NO_CAPTION, Skipped, storable, tidy_captions

NAMES = tuple(
    f"{stem}{suffix}" for stem in ("captions", "metadata") for suffix in (".csv", ".tsv", ".jsonl")
)
_PICTURE_FIELDS = (
    *("file_name", "filename", "file", "filepath", "file_path"),
    *("image", "image_name", "image_path", "path", "name"),
)
_CAPTION_FIELDS = ("caption", "captions", "text", "texts", "caption_text", "comment")
_GROUP_FIELD = "group"
_DELIMITERS = ",;\t|"
_NO_NAME = "a line that names no picture"
_TOO_MANY = "a line with more fields than columns (put captions into quotes)"
_NOT_JSON = "a line that is not a JSON object"


class CaptionList:
    """Pictures' captions by file name; several lines may name the same picture.

    All captions are held in memory, about 0.3 kB each.

    Args:
      path: a .csv, .tsv or .jsonl file with one picture a line. A CSV file starts with a line that
        names its columns; both have a picture's file name (`file_name`, `image`, `path`, ...), its
        `caption` or `text`, and perhaps its `group`.
      folder: where the pictures are; other names are relative to it.

    Attributes:
      skipped: the lines that could not be used.

    Raises:
      ValueError: the file is of another kind, or damaged, or has no such columns.
      OSError: the file cannot be read.
    """

    def __init__(self, path: str | os.PathLike, *, folder: str | os.PathLike):
        self._path = pathlib.Path(path)
        self._folder = os.path.abspath(folder)
        self.skipped: list[Skipped] = []
        self._captions: dict[str, tuple[str, ...]] = {}
        self._groups: dict[str, str] = {}
        kinds = {".csv": self._read_csv, ".tsv": self._read_csv, ".jsonl": self._read_jsonl}
        read = kinds.get(self._path.suffix.lower())
        if read is None:
            raise ValueError(f"captions are in {path}; it must be a {', '.join(kinds)} file")
        try:
            for number, row in read():
                self._add(number, row)
        except UnicodeDecodeError as error:
            raise ValueError(f"{path} is not UTF-8 ({error.reason}); save it as UTF-8") from error

    def captions(self, name: str) -> tuple[str, ...]:
        """Those of a picture; none where it is not listed."""
        return self._captions.get(name, ())

    def group(self, name: str) -> str | None:
        """That of a picture, None where none is given."""
        return self._groups.get(name)

    def names(self) -> list[str]:
        """All pictures that are listed, sorted."""
        return sorted(self._captions)

    def _add(self, number: int, row: dict[str, Any]) -> None:
        line = f"{self._path.name}:{number}"
        name = _first(row, _PICTURE_FIELDS)
        if None in row:  # Where `csv.DictReader` puts them.
            self.skipped.append(Skipped(line, _TOO_MANY))
            return
        if not isinstance(name, str) or not name.strip():
            self.skipped.append(Skipped(line, _NO_NAME))
            return
        captions = tidy_captions(_first(row, _CAPTION_FIELDS))
        if not captions:
            self.skipped.append(Skipped(f"{line} ({storable(name)})", NO_CAPTION))
            return
        name = self._relative(name)
        self._captions[name] = tuple(dict.fromkeys((*self._captions.get(name, ()), *captions)))
        if row.get(_GROUP_FIELD):
            self._groups[name] = storable(str(row[_GROUP_FIELD]))

    def _relative(self, name: str) -> str:
        name = os.path.join(self._folder, name.strip().replace("\\", "/"))
        return os.path.relpath(name, self._folder)

    def _read_csv(self) -> Iterator[tuple[int, dict[str, Any]]]:
        with open(self._path, encoding="utf-8-sig", newline="") as file:
            header = file.readline()
            delimiter = max(_DELIMITERS, key=header.count)
            file.seek(0)
            # Strict: a quote that is never closed would swallow the rest of the file.
            rows = csv.DictReader(file, delimiter=delimiter, strict=True)
            try:
                columns = [(name or "").strip().lower() for name in rows.fieldnames or ()]
                self._check_columns(columns)
                rows.fieldnames = columns
                for row in rows:
                    yield rows.line_num, row
            except csv.Error as error:
                place = f"{self._path}:{rows.reader.line_num}"
                raise ValueError(
                    f'{place}: {error}; a quote inside of a quoted caption is written twice ("")'
                ) from error

    def _check_columns(self, columns: list[str]) -> None:
        for what, known in (("picture", _PICTURE_FIELDS), ("caption", _CAPTION_FIELDS)):
            if not set(known) & set(columns):
                raise ValueError(
                    f"{self._path} has no column for the {what}: its first line is "
                    f"{', '.join(columns)[:200]!r}; name one of its columns {known[0]!r} "
                    f"(or {', '.join(known[1:])})"
                )

    def _read_jsonl(self) -> Iterator[tuple[int, dict[str, Any]]]:
        with open(self._path, encoding="utf-8-sig") as file:
            for number, line in enumerate(file, 1):
                if not line.strip():
                    continue
                try:
                    row = json.loads(line)
                except (ValueError, RecursionError):
                    row = None
                if isinstance(row, dict):
                    yield number, row
                else:
                    self.skipped.append(Skipped(f"{self._path.name}:{number}", _NOT_JSON))


def _first(row: dict[str, Any], fields: tuple[str, ...]) -> Any:
    """The first of the fields that is there and not empty."""
    return next((row[field] for field in fields if row.get(field)), None)
