"""What a reader finds: a picture with captions, or something that cannot be used."""

import dataclasses
import os
from collections.abc import Callable, Iterator
from typing import Any, Protocol

from tfsnap.errors import TfsnapError

# Suffixes of files that are taken for pictures, whether they can be read or not: those that cannot
# are counted, so that nobody wonders where a thousand of them are.
PICTURES = frozenset(
    (
        *(".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".apng", ".webp", ".gif", ".bmp", ".tif"),
        *(".tiff", ".avif", ".jp2", ".pbm", ".pgm", ".ppm", ".tga", ".ico"),
        *(".heic", ".heif", ".svg", ".psd", ".dng", ".cr2", ".cr3", ".nef", ".arw", ".exr"),
    )
)
EVERYTHING = "all"  # The group of a picture that is in none.
NO_CAPTION = "no caption"
TOO_LARGE = "file too large"
_MAX_BYTES = 2**28  # Of a file; a larger one is no picture that anybody meant.
_CAPTION_KEYS = ("caption", "captions", "text", "texts", "raw", "sentences")


@dataclasses.dataclass(frozen=True)
class Entry:
    """A picture that was found.

    Attributes:
      name: where it lies among the others; no two have the same.
      captions: at least one, the canonical one first.
      read: gives the encoded picture; raises OSError or `UnusableError`.
      group: what it is drawn with, see `tfsnap.data.shuffle.sampling_index`.
    """

    name: str
    captions: tuple[str, ...]
    read: Callable[[], bytes]
    group: str = EVERYTHING


@dataclasses.dataclass(frozen=True)
class Skipped:
    """Something that cannot be used.

    Attributes:
      name: where it lies.
      reason: why, in a few words that are the same for all of its kind.
    """

    name: str
    reason: str


class Reader(Protocol):
    """Iterated over as often as wanted; see `tfsnap.data.readers`.

    Attributes:
      kind: "folder", "webdataset" or "tfds".
      place: where the pictures are, for messages.
      total: how many there are, None where that is not known before.
    """

    kind: str
    place: str
    total: int | None

    def __iter__(self) -> Iterator[Entry | Skipped]: ...


class UnusableError(TfsnapError, ValueError):
    """A picture cannot be used; the message is the reason of a `Skipped`."""


def found(
    name: str, captions: tuple[str, ...], read: Callable[[], bytes], group: str = EVERYTHING
) -> Entry | Skipped:
    """An entry, or why it is none."""
    name = storable(name)
    return Entry(name, captions, read, group) if captions else Skipped(name, NO_CAPTION)


def tidy_captions(value: Any) -> tuple[str, ...]:
    r"""Captions in whatever form they are stored: a text, a list, a dict that has them.

    Blanks are reduced to one between words; empty captions and those that occur before are left
    out.

    Example:
      >>> tidy_captions([{"id": 7, "text": "a  red\tapple"}, "", "a red apple", "fruit"])
      ('a red apple', 'fruit')
    """
    if isinstance(value, bytes):
        value = value.decode("utf-8", "replace")
    if isinstance(value, str):
        tidy = " ".join(storable(value).split())
        return (tidy,) if tidy else ()
    if isinstance(value, dict):
        keys = [key for key in _CAPTION_KEYS if value.get(key)]
        return tidy_captions(value[keys[0]]) if keys else ()
    if isinstance(value, list | tuple):
        return tuple(dict.fromkeys(caption for part in value for caption in tidy_captions(part)))
    return ()


def storable(text: str) -> str:
    """The text without what UTF-8 has no bytes for: half a surrogate pair, a name in Latin-1."""
    return text.encode("utf-8", "backslashreplace").decode("utf-8").replace("\0", "")


def read_file(path: str | os.PathLike) -> bytes:
    """The content of a file, unless that is too large.

    Raises:
      OSError: it cannot be read.
      UnusableError: it is too large.
    """
    with open(path, "rb") as file:
        check_size(os.fstat(file.fileno()).st_size)
        return file.read()


def check_size(size: int) -> None:
    """Raises `UnusableError` for the size in bytes of a file that is too large to be a picture."""
    if size > _MAX_BYTES:
        raise UnusableError(TOO_LARGE)
