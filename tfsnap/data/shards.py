"""Tables on disk whose rows are read in any order: ArrayRecord shards with checksums.

    manifest.json                what the tables are, and the SHA-256 of every shard
    begun.json                   the same without checksums, while shards are being written
    shard-00000.array_record     one record a row: the row of every table, one after another
    shard-00000.sha256           its checksum

A shard is complete or absent, so that whoever was interrupted writes only what is missing.
"""

import collections
import dataclasses
import json
import math
import os
import pathlib
import threading
from collections.abc import Mapping
from typing import Any

import ml_dtypes
import numpy as np
from array_record.python.array_record_module import ArrayRecordReader, ArrayRecordWriter

from tfsnap.checksum import file_sha256
from tfsnap.config import differences
from tfsnap.errors import TfsnapError

_FORMAT = {"format": "tfsnap-tables", "version": 1}
_MANIFEST, _BEGUN = "manifest.json", "begun.json"
_DTYPES = {name: np.dtype(name) for name in ("uint8", "int32", "float16", "float32")}
_DTYPES["bfloat16"] = np.dtype(ml_dtypes.bfloat16)
# Each row for itself, because they are read at random; pictures and latents hardly shrink.
_WRITE_OPTIONS = "group_size:1,uncompressed"
_READ_OPTIONS = "readahead_buffer_size:0,max_parallelism:0"
_TOGETHER = 64  # Rows of a shard that are worth the reader's threads.
_AT_ONCE = 4096  # Rows of a whole table.
_OPEN_SHARDS = 256  # Of a folder; a process may open 1,024 files where nobody raised the limit.


class ShardError(TfsnapError, ValueError):
    """A folder of tables is missing, unfinished, damaged, or of something else."""


@dataclasses.dataclass(frozen=True)
class TableSpec:
    """One row of a table.

    Attributes:
      dtype: "uint8", "int32", "float16", "bfloat16" or "float32".
      shape: of a row.
    """

    dtype: str
    shape: tuple[int, ...]

    def __post_init__(self) -> None:
        object.__setattr__(self, "shape", tuple(int(side) for side in self.shape))
        if self.dtype not in _DTYPES:
            raise ValueError(f"dtype is {self.dtype!r}; it must be one of {', '.join(_DTYPES)}")

    @property
    def numpy(self) -> np.dtype:
        """The dtype for numpy."""
        return _DTYPES[self.dtype]

    @property
    def size(self) -> int:
        """Bytes of a row."""
        return math.prod(self.shape) * self.numpy.itemsize


class ShardWriter:
    """Writes tables shard by shard, in any order, and goes on where another was interrupted.

    Args:
      folder: where they go.
      tables: what they are, by name.
      rows: how many rows all of them have.
      rows_per_shard: how many rows a shard has; the last may have fewer.
      about: JSON values that describe the tables for their readers.

    Raises:
      ShardError: the folder was begun with other tables; the message says what differs.

    Example:
      >>> writer = ShardWriter(folder, tables={"x": TableSpec("uint8", (8,))}, rows=9, about={})
      >>> for shard in writer.missing():
      ...     writer.write(shard, {"x": make(writer.rows_of(shard))})
      >>> writer.finish()
    """

    def __init__(
        self,
        folder: str | os.PathLike,
        *,
        tables: Mapping[str, TableSpec],
        rows: int,
        rows_per_shard: int = 1024,
        about: Mapping[str, Any],
    ):
        self._folder = pathlib.Path(folder)
        self._tables = dict(tables)
        self._rows = rows
        self._rows_per_shard = rows_per_shard
        self._plan = {
            **_FORMAT,
            "tables": {n: {"dtype": t.dtype, "shape": list(t.shape)} for n, t in tables.items()},
            "rows": rows,
            "rows_per_shard": rows_per_shard,
            "about": json.loads(json.dumps(about)),
        }
        self._begin()

    def missing(self) -> list[int]:
        """Numbers of the shards that are not there, or whose checksum is wrong."""
        return [n for n in range(self._shards) if shard_checksum(self._folder, n) is None]

    def rows_of(self, shard: int) -> range:
        """The rows that belong to a shard."""
        start = shard * self._rows_per_shard
        return range(start, min(start + self._rows_per_shard, self._rows))

    def write(self, shard: int, tables: Mapping[str, np.ndarray]) -> None:
        """Writes a shard, whole or not at all.

        Args:
          shard: its number.
          tables: [R, ...] by name, R the number of its rows.

        Raises:
          ShardError: a table is missing or has another shape or type.
          OSError: the disk is full or cannot be written.
        """
        rows = len(self.rows_of(shard))
        write_shard(self._folder, shard, specs=self._tables, tables=tables, rows=rows)

    def finish(self) -> None:
        """Checks that all shards are there and makes the folder readable.

        Raises:
          ShardError: some are not.
        """
        checksums = [shard_checksum(self._folder, shard) for shard in range(self._shards)]
        if None in checksums:
            raise ShardError(f"{self._folder}: shard {checksums.index(None)} is missing or damaged")
        _write_text(self._folder / _MANIFEST, _json({**self._plan, "sha256": checksums}))
        (self._folder / _BEGUN).unlink(missing_ok=True)

    @property
    def _shards(self) -> int:
        return -(-self._rows // self._rows_per_shard)

    def _begin(self) -> None:
        self._folder.mkdir(parents=True, exist_ok=True)
        for name in (_MANIFEST, _BEGUN):
            path = self._folder / name
            if path.is_file():
                found = {k: v for k, v in _read_json(path).items() if k != "sha256"}
                changed = differences(found, self._plan)
                if changed:
                    raise ShardError(
                        f"{self._folder} holds other tables: {'; '.join(changed[:5])}. Choose "
                        "another folder, or remove this one"
                    )
                return
        _write_text(self._folder / _BEGUN, _json(self._plan))


class ShardedTables:
    """Tables that `ShardWriter` finished. Threads may read at the same time.

    Args:
      folder: where they are.

    Attributes:
      specs: what the tables are, by name.
      about: what the writer told about them.

    Raises:
      ShardError: the folder holds no finished tables, or a shard is not there.
    """

    def __init__(self, folder: str | os.PathLike):
        self._folder = pathlib.Path(folder)
        if not (self._folder / _MANIFEST).is_file():
            begun = (self._folder / _BEGUN).is_file()
            raise ShardError(
                f"{folder}: {'its tables are not finished' if begun else 'no tables are here'}; "
                "run tools/prepare_data.py"
            )
        manifest = _read_json(self._folder / _MANIFEST)
        if {key: manifest.get(key) for key in _FORMAT} != _FORMAT:
            raise ShardError(f"{folder}/{_MANIFEST} is not {_FORMAT}: make the tables again")
        self.specs = {
            name: TableSpec(spec["dtype"], tuple(spec["shape"]))
            for name, spec in manifest["tables"].items()
        }
        self.about = manifest["about"]
        self._row_size = sum(spec.size for spec in self.specs.values())
        self._rows, self._rows_per_shard = manifest["rows"], manifest["rows_per_shard"]
        self._checksums = manifest["sha256"]
        self._readers: collections.OrderedDict[int, ArrayRecordReader] = collections.OrderedDict()
        self._lock = threading.Lock()  # Of the readers' table; they themselves may be shared.
        for shard in range(len(self._checksums)):
            if not _shard_path(self._folder, shard).is_file():
                raise ShardError(f"{_shard_path(self._folder, shard)} is missing")

    def __len__(self) -> int:
        return self._rows

    def read(self, rows: np.ndarray) -> dict[str, np.ndarray]:
        """Reads rows in any order.

        Args:
          rows: int [B].

        Returns:
          [B, ...] by name.

        Raises:
          ShardError: a row is not there, or its shard is damaged.
        """
        rows = np.asarray(rows)
        if rows.size and (rows.min() < 0 or rows.max() >= self._rows):
            raise ShardError(f"row {rows.max()} of {self._folder}: it has {self._rows} rows")
        records: list[bytes] = [b""] * len(rows)
        shards, places = np.divmod(rows, self._rows_per_shard)
        for shard in np.unique(shards):
            wanted = np.flatnonzero(shards == shard)
            for i, record in zip(wanted, self._records(int(shard), places[wanted]), strict=True):
                records[i] = record
        return self._tables_of(records)

    def table(self, name: str) -> np.ndarray:
        """A whole table in memory."""
        return whole_table(self, name)

    def verify(self) -> None:
        """Compares every shard with its checksum.

        Raises:
          ShardError: one does not match.
        """
        for shard, checksum in enumerate(self._checksums):
            path = _shard_path(self._folder, shard)
            if file_sha256(path) != checksum:
                raise ShardError(f"{path} does not match its checksum; remove it and make it again")

    def _records(self, shard: int, places: np.ndarray) -> list[bytes]:
        path = _shard_path(self._folder, shard)
        try:
            reader = self._reader(shard)
            if len(places) >= _TOGETHER:
                records = reader.read(places.tolist())
            else:
                records = [reader.read([place])[0] for place in places.tolist()]
        except (RuntimeError, ValueError, IndexError) as error:
            reason = str(error).splitlines()[0][:200]
            raise ShardError(f"{path} cannot be read ({reason}); make it again") from error
        # Of a shard that was cut short the reader gives empty records.
        if any(len(record) != self._row_size for record in records):
            raise ShardError(f"{path} cannot be read (a row is incomplete); make it again")
        return records

    def _reader(self, shard: int) -> ArrayRecordReader:
        """Opens a shard, and forgets the one that was used least recently."""
        with self._lock:
            if shard not in self._readers:
                path = _shard_path(self._folder, shard)
                self._readers[shard] = ArrayRecordReader(str(path), _READ_OPTIONS)
            self._readers.move_to_end(shard)
            if len(self._readers) > _OPEN_SHARDS:
                self._readers.popitem(last=False)  # Closed when nobody reads from it any more.
            return self._readers[shard]

    def _tables_of(self, records: list[bytes]) -> dict[str, np.ndarray]:
        """Cuts records into the rows of their tables."""
        whole = np.frombuffer(bytearray(b"".join(records)), np.uint8)
        whole = whole.reshape(len(records), self._row_size)  # [B, bytes]
        tables, start = {}, 0
        for name, spec in self.specs.items():
            part = np.ascontiguousarray(whole[:, start : start + spec.size])
            tables[name] = part.view(spec.numpy).reshape(len(records), *spec.shape)
            start += spec.size
        return tables


def whole_table(tables: ShardedTables, name: str) -> np.ndarray:
    """All rows of a table of `ShardedTables`, or of what has its interface."""
    spec = tables.specs[name]
    whole = np.empty((len(tables), *spec.shape), spec.numpy)
    for start in range(0, len(whole), _AT_ONCE):  # Reading takes several times the rows' size.
        rows = np.arange(start, min(start + _AT_ONCE, len(whole)))
        whole[rows] = tables.read(rows)[name]
    return whole


def write_shard(
    folder: pathlib.Path,
    shard: int,
    *,
    specs: Mapping[str, TableSpec],
    tables: Mapping[str, np.ndarray],
    rows: int,
) -> None:
    """Writes a shard and its checksum, whole or not at all; for `ShardWriter` and its like.

    Args:
      folder: where it goes.
      shard: its number.
      specs: what its tables are.
      tables: [rows, ...] by name.
      rows: how many.

    Raises:
      ShardError: a table is missing or has another shape or type.
      OSError: the disk is full or cannot be written.
    """
    columns = [_column(shard, name, spec, tables, rows) for name, spec in specs.items()]
    path = _shard_path(folder, shard)
    temporary = path.with_suffix(".tmp")
    try:
        writer = ArrayRecordWriter(str(temporary), _WRITE_OPTIONS)
        for row in zip(*columns, strict=True):
            writer.write(b"".join(value.tobytes() for value in row))
        writer.close()
    except RuntimeError as error:
        raise OSError(f"{path} cannot be written: {str(error).splitlines()[0][:200]}") from error
    _flush(temporary)
    digest = file_sha256(temporary)
    os.replace(temporary, path)
    _write_text(path.with_suffix(".sha256"), digest)


def shard_checksum(folder: pathlib.Path, shard: int) -> str | None:
    """The checksum of a shard, or None where it is not there or not whole."""
    path = _shard_path(folder, shard)
    try:
        noted = path.with_suffix(".sha256").read_text()
        return noted if file_sha256(path) == noted else None
    except (OSError, UnicodeDecodeError):
        return None


def _column(
    shard: int, name: str, spec: TableSpec, tables: Mapping[str, np.ndarray], rows: int
) -> np.ndarray:
    """One table of a shard, checked; a row of shape () is a scalar."""
    if name not in tables:
        raise ShardError(f"shard {shard} is without the table {name!r}")
    value = np.ascontiguousarray(tables[name])
    if value.shape != (rows, *spec.shape) or value.dtype != spec.numpy:
        raise ShardError(
            f"{name!r} of shard {shard} is {value.dtype} {list(value.shape)}; it must be "
            f"{spec.dtype} {[rows, *spec.shape]}"
        )
    return value


def _shard_path(folder: pathlib.Path, shard: int) -> pathlib.Path:
    return folder / f"shard-{shard:05d}.array_record"


def _json(value: Any) -> str:
    return json.dumps(value, indent=2) + "\n"


def _read_json(path: pathlib.Path) -> dict[str, Any]:
    try:
        return json.loads(path.read_text())
    except ValueError as error:
        raise ShardError(f"{path} is not JSON ({error}); make the tables again") from error


def _write_text(path: pathlib.Path, text: str) -> None:
    temporary = path.with_name(f".{path.name}.tmp")
    temporary.write_text(text)
    _flush(temporary)
    os.replace(temporary, path)


def _flush(path: pathlib.Path) -> None:
    """To the disk itself, so that no power cut leaves a whole name with half a file."""
    with open(path, "rb+") as file:
        os.fsync(file.fileno())
