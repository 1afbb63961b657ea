"""Where the rows of a batch come from: arrays in memory, or shards on disk."""

import dataclasses
from collections.abc import Callable, Mapping, Sequence

import numpy as np
import tensorflow as tf

from tfsnap.data.shards import ShardedTables

Fetched = dict[str, tf.Tensor]


@dataclasses.dataclass(frozen=True, eq=False)
class StoredTable:
    """One table on disk that has an array's length, shape and type, and is read row by row.

    Attributes:
      shards: where it lies.
      name: its name there.
      variants: None, or how many consecutive rows on disk make up one row here: the shape is then
        [N, V, ...], and a batch that draws one of the V reads no other.
    """

    shards: ShardedTables
    name: str
    variants: int | None = None

    def __post_init__(self) -> None:
        if self.variants is not None and len(self.shards) % self.variants:
            raise ValueError(
                f"{len(self.shards)} rows of {self.name!r} cannot be divided into groups of "
                f"{self.variants}"
            )

    def __len__(self) -> int:
        return len(self.shards) // (self.variants or 1)

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of the whole table."""
        row = self.shards.specs[self.name].shape
        return (len(self), *row) if self.variants is None else (len(self), self.variants, *row)

    @property
    def dtype(self) -> np.dtype:
        """The type of its entries."""
        return self.shards.specs[self.name].numpy

    def load(self) -> np.ndarray:
        """The whole table in memory."""
        return self.shards.table(self.name).reshape(self.shape)  # [N, V, ...] or [N, ...]


Table = np.ndarray | StoredTable


def stored_tables(
    shards: ShardedTables, names: Sequence[str] | None = None, *, variants: int | None = None
) -> dict[str, StoredTable]:
    """The tables of a folder of shards, by name.

    Args:
      shards: the folder.
      names: which of them; all by default.
      variants: see `StoredTable`.
    """
    return {name: StoredTable(shards, name, variants) for name in names or shards.specs}


def fetcher(tables: Mapping[str, Table]) -> Callable[..., Fetched]:
    """Returns `fetch(rows, picks)`, which makes a batch of rows of tables in memory and on disk.

    Its arguments are the rows, int64 [B], and for every table that is [N, V, ...] which of the V is
    wanted of each, int32 [B].
    """
    stored = {name: table for name, table in tables.items() if isinstance(table, StoredTable)}
    arrays = {
        name: tf.constant(table) for name, table in tables.items() if name not in stored
    }  # Made once, and not for every batch.

    def fetch(rows: tf.Tensor, picks: Mapping[str, tf.Tensor]) -> Fetched:
        batch = gather(arrays, rows, picks)
        if stored:
            batch |= _read(stored, rows, {name: picks[name] for name in stored if name in picks})
        return {name: batch[name] for name in tables}

    return fetch


def gather(
    arrays: Mapping[str, tf.Tensor], rows: tf.Tensor, picks: Mapping[str, tf.Tensor]
) -> Fetched:
    """Rows of tables in memory, with operations that XLA compiles; see `fetcher`."""

    def rows_of(name: str, table: tf.Tensor) -> tf.Tensor:
        if name not in picks:
            return tf.gather(table, rows)
        return tf.gather_nd(table, tf.stack([rows, tf.cast(picks[name], rows.dtype)], axis=1))

    return {name: rows_of(name, table) for name, table in arrays.items()}


def _read(
    tables: Mapping[str, StoredTable], rows: tf.Tensor, picks: Mapping[str, tf.Tensor]
) -> Fetched:
    """The same from disk, where it runs in Python."""

    def read(rows: np.ndarray, *drawn: np.ndarray) -> list[np.ndarray]:
        found = read_rows(tables, rows, dict(zip(picks, drawn, strict=True)))
        return [found[name] for name in tables]

    types = [tf.as_dtype(table.dtype) for table in tables.values()]
    arrays = tf.numpy_function(read, [rows, *picks.values()], types, stateful=False)
    for (name, table), array in zip(tables.items(), arrays, strict=True):
        array.set_shape([rows.shape[0], *table.shape[2 if name in picks else 1 :]])
    return dict(zip(tables, arrays, strict=True))


def read_rows(
    tables: Mapping[str, StoredTable], rows: np.ndarray, picks: Mapping[str, np.ndarray]
) -> dict[str, np.ndarray]:
    """Reads rows from disk, those of tables that lie together at once.

    Args:
      tables: tables on disk.
      rows: int [B].
      picks: int [B] for every table that is [N, V, ...]: which of the V.

    Returns:
      [B, ...] by name.

    Raises:
      ShardError: a shard cannot be read.
    """
    found, records = {}, {}
    for name, table in tables.items():
        places = rows if table.variants is None else rows * table.variants + picks[name]
        key = (id(table.shards), places.tobytes())
        if key not in records:
            records[key] = table.shards.read(places)
        found[name] = records[key][table.name]
        if table.variants is None and name in picks:
            found[name] = found[name][np.arange(len(rows)), picks[name]]
    return found
