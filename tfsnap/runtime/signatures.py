"""Chooses one signature of a TFLite file, in place: a reader then sees no other.

A file that serves several sizes of picture has a signature and a subgraph for each, and one copy of
the weights. An interpreter prepares every subgraph that it finds, and holds the prepared weights
once for each. So the others are hidden before it is given the file: the lists of subgraphs and of
signatures are cut to one entry each, which takes a few bytes.
"""

import mmap
import pathlib
import struct
from collections.abc import Iterator

_OFFSET = struct.Struct("<I")
_BACK = struct.Struct("<i")
_FIELD = struct.Struct("<H")
# Numbers of fields in TFLite's schema.
_SUBGRAPHS, _SIGNATURES = 2, 7  # Of a model.
_KEY, _SUBGRAPH_INDEX = 2, 4  # Of a signature.


def select_signature(path: pathlib.Path, key: str) -> None:
    """Makes a signature, and its subgraph, the only one of a file.

    Args:
      path: a TFLite file, which is changed.
      key: the signature's name.

    Raises:
      ValueError: the file is no TFLite file, or has no such signature.
    """
    with path.open("r+b") as file, mmap.mmap(file.fileno(), 0) as content:
        try:
            _select(content, key)
        except struct.error as error:
            raise ValueError(f"it is no TFLite file: {error}") from error


def _select(content: mmap.mmap, key: str) -> None:
    model = _follow(content, 0)
    signatures = {_text(content, entry): entry for entry in _entries(content, model, _SIGNATURES)}
    if key not in signatures:
        raise ValueError(f"it has no signature {key!r}, only {', '.join(sorted(signatures))}")
    index = _find(content, signatures[key], _SUBGRAPH_INDEX)
    number = 0 if index is None else _OFFSET.unpack_from(content, index)[0]  # 0 is not written.
    subgraphs = list(_entries(content, model, _SUBGRAPHS))
    if number >= len(subgraphs):
        raise ValueError(f"its signature {key!r} is of subgraph {number} of {len(subgraphs)}")
    _keep_only(content, model, _SUBGRAPHS, subgraphs[number])
    _keep_only(content, model, _SIGNATURES, signatures[key])
    if index is not None:
        _OFFSET.pack_into(content, index, 0)


def _keep_only(content: mmap.mmap, table: int, field: int, entry: int) -> None:
    """Cuts a list of tables to one of them."""
    start = _follow(content, _find(content, table, field))
    _OFFSET.pack_into(content, start, 1)
    first = start + _OFFSET.size
    _OFFSET.pack_into(content, first, entry - first)


def _entries(content: mmap.mmap, table: int, field: int) -> Iterator[int]:
    """Positions of the tables in a list."""
    place = _find(content, table, field)
    if place is None:
        return
    start = _follow(content, place)
    for i in range(_OFFSET.unpack_from(content, start)[0]):
        yield _follow(content, start + (i + 1) * _OFFSET.size)


def _text(content: mmap.mmap, signature: int) -> str:
    start = _follow(content, _find(content, signature, _KEY))
    length = _OFFSET.unpack_from(content, start)[0]
    return content[start + _OFFSET.size : start + _OFFSET.size + length].decode()


def _find(content: mmap.mmap, table: int, field: int) -> int | None:
    """Position of a table's field; None where it has its default."""
    fields = table - _BACK.unpack_from(content, table)[0]
    place = 4 + 2 * field  # Behind the sizes of the list of fields and of the table.
    if place >= _FIELD.unpack_from(content, fields)[0]:
        return None
    offset = _FIELD.unpack_from(content, fields + place)[0]
    return table + offset if offset else None


def _follow(content: mmap.mmap, place: int | None) -> int:
    """Where the offset at a position leads."""
    if place is None:
        raise struct.error("a field is missing")
    return place + _OFFSET.unpack_from(content, place)[0]
