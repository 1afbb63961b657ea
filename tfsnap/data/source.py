"""Data from which the batch of any step can be drawn.

Nothing is carried from batch to batch: a run that resumes at step 1000 asks for the batches from
step 1000 on and gets exactly what the interrupted run would have seen.
"""

import dataclasses
from collections.abc import Mapping
from typing import Self

import numpy as np
import tensorflow as tf

from tfsnap.data.augment import AugmentConfig, Augmenter
from tfsnap.data.shards import ShardedTables
from tfsnap.data.shuffle import ROUNDS, epoch_keys
from tfsnap.data.tables import StoredTable, Table, fetcher, gather, stored_tables

# Independent streams of random numbers that start from one seed.
_VARIANT_STREAM = 1
_DROPOUT_STREAM = 2
_AUGMENT_STREAM = 3
_STORED_AUGMENTATION_STREAM = 4
_PREFETCHED = 2  # Batches that wait to be used.
_PHILOX = "philox"  # Named, because the automatic choice gives other numbers under XLA.


@dataclasses.dataclass(frozen=True, eq=False)
class BatchSource:
    """Tables of examples and how batches are drawn from them, shuffled anew in every epoch.

    The batch of a step is a pure function of the seed and the step.

    Attributes:
      tables: tables [N, ...] with the same N: row i of each belongs to example i. Arrays in memory,
        or on disk a `ShardedTables` or some of its tables, see `tfsnap.data.tables`.
      index: int64 [M], the rows of an epoch, see `sampling_index`.
      batch_size: rows in a batch; epochs follow each other without a gap, so all are full.
      seed: of the order, the variants, the dropout and the augmentation.
      variants: tables that are [N, V, ...]: one of the V is drawn for each example of a batch, the
        same one in all these tables.
      augmentations: tables that are [N, A, ...], of which one of the A is drawn likewise, whichever
        the variant.
      null_rows: for some tables the row (without the V axis) that stands for "no caption".
      dropout: probability that an example's rows in those tables are replaced by the null rows, all
        of them together, as classifier-free guidance needs.
      pictures: tables that are uint8 [N, H, W, 3] and become float32 in [-1, 1].
      augment: how pictures are changed.

    Raises:
      ValueError: tables disagree in N, V or A, a name is no table's, or a number is out of range.

    Example:
      >>> source = BatchSource(tables={"moments": moments, "tokens": tokens}, index=index,
      ...                      batch_size=64, seed=0, variants=("tokens",),
      ...                      null_rows={"tokens": empty}, dropout=0.1)
      >>> batches = source.batches(start_step=1000)
    """

    tables: Mapping[str, Table] | ShardedTables
    index: np.ndarray
    batch_size: int
    seed: int
    variants: tuple[str, ...] = ()
    augmentations: tuple[str, ...] = ()
    null_rows: Mapping[str, np.ndarray] = dataclasses.field(default_factory=dict)
    dropout: float = 0.0
    pictures: tuple[str, ...] = ()
    augment: AugmentConfig = AugmentConfig()

    def __post_init__(self) -> None:
        if isinstance(self.tables, ShardedTables):
            object.__setattr__(self, "tables", stored_tables(self.tables))
        self._check_tables()
        rows = len(next(iter(self.tables.values())))
        if len(self.index) == 0 or np.min(self.index) < 0 or np.max(self.index) >= rows:
            raise ValueError(f"index must hold row numbers from 0 to {rows - 1}, at least one")
        if self.batch_size < 1:
            raise ValueError(f"batch_size is {self.batch_size}; it must be at least 1")
        if not 0.0 <= self.dropout <= 1.0:
            raise ValueError(f"dropout is {self.dropout}; it must be from 0 to 1")
        if self.dropout and not self.null_rows:
            raise ValueError(
                f"dropout is {self.dropout}, but no null rows are given to replace captions by"
            )

    def batches(self, start_step: int = 0, *, part: tuple[int, int] = (0, 1)) -> tf.data.Dataset:
        """An endless dataset of dicts: element k is the batch of step `start_step + k`.

        Args:
          start_step: the step of the first batch.
          part: (i, n), for worker i of n: only rows i * B/n to (i + 1) * B/n of each batch of B.

        Raises:
          ValueError: the batch cannot be divided so.
        """
        own = self._own_rows(part)
        fetch = fetcher(self.tables)
        index = tf.constant(self.index, tf.int64)
        augmenter = Augmenter(self.augment) if self.augment != AugmentConfig() else None

        def draw(step: tf.Tensor) -> dict[str, tf.Tensor]:
            # Draws are for the whole batch, so that they do not depend on who makes which part.
            picks = {name: drawn[own] for name, drawn in self._picks(step).items()}
            batch = fetch(self._rows(index, step)[own], picks)
            batch = self._drop(batch, step, own)
            if augmenter:
                seed = self._stream(step, _AUGMENT_STREAM)
                amounts = augmenter.draw(self.batch_size, seed)[own]
                for name in self.pictures:
                    batch[name] = augmenter(images=batch[name], amounts=amounts)
            return self._finish(batch)

        steps = tf.data.Dataset.range(start_step, np.iinfo(np.int64).max)
        dataset = steps.map(draw, num_parallel_calls=tf.data.AUTOTUNE)
        return dataset.prefetch(_PREFETCHED).with_options(_options())

    def at(self, step: int) -> dict[str, np.ndarray]:
        """The batch of one step, as arrays."""
        return next(self.batches(step).as_numpy_iterator())

    def in_memory(self) -> Self:
        """The same source with all of its tables in memory, as `batch` needs them."""
        tables = {
            name: table.load() if isinstance(table, StoredTable) else table
            for name, table in self.tables.items()
        }
        return dataclasses.replace(self, tables=tables)

    def batch(
        self, *, tables: Mapping[str, tf.Tensor], rows: tf.Tensor, step: tf.Tensor
    ) -> dict[str, tf.Tensor]:
        """The batch of a step when its rows are known, with operations that XLA compiles.

        Args:
          tables: `self.tables` as tensors.
          rows: int32 [B], see `tfsnap.data.shuffle.rows_of_steps`.
          step: int scalar.

        Returns:
          What `batches` yields for this step.

        Raises:
          ValueError: pictures are augmented, which XLA cannot do.
        """
        if self.augment != AugmentConfig():
            raise ValueError(
                f"data.augment is {self.augment.to_dict()}; keras-cv's augmentation cannot be "
                "compiled with XLA: set its fields to 0"
            )
        batch = gather(tables, rows, self._picks(step))
        return self._finish(self._drop(batch, step, slice(None)))

    def _own_rows(self, part: tuple[int, int]) -> slice:
        worker, workers = part
        if not 0 <= worker < workers:
            raise ValueError(f"part is {part}; it must be (worker, workers), worker from 0")
        rows, rest = divmod(self.batch_size, workers)
        if rest:
            near = [size * workers for size in (rows, rows + 1) if size]
            raise ValueError(
                f"batch_size is {self.batch_size}, which {workers} workers cannot share; it must "
                f"be a multiple of {workers}, such as {' or '.join(map(str, near))}"
            )
        return slice(worker * rows, (worker + 1) * rows)

    def _picks(self, step: tf.Tensor) -> dict[str, tf.Tensor]:
        """Which variant or augmentation of each example, int32 [B], by table."""
        groups = (
            (self.variants, _VARIANT_STREAM),
            (self.augmentations, _STORED_AUGMENTATION_STREAM),
        )
        picks = {}
        for names, stream in groups:
            if names:
                count = self.tables[names[0]].shape[1]
                picks.update(dict.fromkeys(names, self._below(count, step, stream)))
        return picks

    def _drop(
        self, batch: dict[str, tf.Tensor], step: tf.Tensor, own: slice
    ) -> dict[str, tf.Tensor]:
        """Replaces captions by null rows at their rate, in the rows `own` of a whole batch."""
        if not self.dropout:
            return batch
        dropped = self._uniform(step, _DROPOUT_STREAM)[own] < self.dropout  # [B]
        replaced = {}
        for name, row in self.null_rows.items():
            null = tf.constant(row, batch[name].dtype)[tf.newaxis]
            ones = [1] * (null.shape.rank - 1)
            where = tf.reshape(dropped, [dropped.shape[0], *ones])  # [B, 1, ...]
            replaced[name] = tf.where(where, null, batch[name])
        return {**batch, **replaced}

    def _finish(self, batch: dict[str, tf.Tensor]) -> dict[str, tf.Tensor]:
        scaled = {name: tf.cast(batch[name], tf.float32) / 127.5 - 1.0 for name in self.pictures}
        return {**batch, **scaled}

    def _rows(self, index: tf.Tensor, step: tf.Tensor) -> tf.Tensor:
        """The rows of a step: places on an endless tape of epochs, each shuffled by its number."""
        size = tf.size(index, tf.int64)
        places = step * self.batch_size + tf.range(self.batch_size, dtype=tf.int64)
        words = epoch_keys(self.seed, tf.cast(places // size, tf.uint64))
        seeds = tf.cast(tf.stack(words, axis=1), tf.int64)  # [B, 3]
        # The public index_shuffle takes one seed for all places only; a batch may span two epochs.
        shuffled = tf.raw_ops.RandomIndexShuffle(
            index=places % size, seed=seeds, max_index=size - 1, rounds=ROUNDS
        )
        return tf.gather(index, shuffled)

    def _below(self, limit: int, step: tf.Tensor, stream: int) -> tf.Tensor:
        """Uniform in 0 .. limit - 1, int32 [B]."""
        return tf.random.stateless_uniform(
            [self.batch_size],
            self._stream(step, stream),
            maxval=limit,
            dtype=tf.int32,
            alg=_PHILOX,
        )

    def _uniform(self, step: tf.Tensor, stream: int) -> tf.Tensor:
        """Uniform in [0, 1), float32 [B], from integer bits: floats differ between CPU and XLA."""
        bits = tf.random.stateless_uniform(
            [self.batch_size],
            self._stream(step, stream),
            minval=None,
            maxval=None,
            dtype=tf.uint32,
            alg=_PHILOX,
        )
        return tf.cast(tf.bitwise.bitwise_and(bits, 2**23 - 1), tf.float32) * 2.0**-23

    def _stream(self, step: tf.Tensor, stream: int) -> tf.Tensor:
        """The stateless seed of one use of random numbers at one step."""
        pair = tf.stack([tf.cast(self.seed, tf.int64), tf.cast(step, tf.int64)])
        return tf.random.experimental.stateless_fold_in(pair, stream, alg=_PHILOX)

    def _check_tables(self) -> None:
        sizes = {name: len(table) for name, table in self.tables.items()}
        if len(set(sizes.values())) != 1:
            raise ValueError(f"Tables must have the same number of rows; they have {sizes}")
        named = {*self.variants, *self.augmentations, *self.null_rows, *self.pictures}
        strangers = sorted(named - set(self.tables))
        if strangers:
            raise ValueError(f"{strangers[0]!r} is not a table; the tables are {sorted(sizes)}")
        for field in ("variants", "augmentations"):
            counts = {name: self.tables[name].shape[1] for name in getattr(self, field)}
            if len(set(counts.values())) > 1:
                what = field.capitalize()
                raise ValueError(f"{what} must be equally many in all tables; they are {counts}")


def _options() -> tf.data.Options:
    options = tf.data.Options()
    options.deterministic = True
    # The steps are not files to be divided among workers: every worker counts the same steps.
    options.experimental_distribute.auto_shard_policy = tf.data.experimental.AutoShardPolicy.OFF
    return options
