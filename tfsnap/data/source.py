"""Data in memory from which the batch of any step can be drawn."""

import dataclasses
from collections.abc import Mapping

import numpy as np
import tensorflow as tf

from tfsnap.data.augment import AugmentConfig, Augmenter
from tfsnap.data.shuffle import ROUNDS

# Independent streams of random numbers that start from one seed.
_VARIANT_STREAM = 1
_DROPOUT_STREAM = 2
_AUGMENT_STREAM = 3
_PHILOX = "philox"  # Named, because the automatic choice gives other numbers under XLA.


@dataclasses.dataclass(frozen=True, eq=False)
class BatchSource:
    """Tables of examples and how batches are drawn from them, shuffled anew in every epoch.

    The batch of a step is a pure function of the seed and the step.

    Attributes:
      tables: arrays [N, ...] with the same N: row i of each belongs to example i.
      index: int64 [M], the rows of an epoch, see `sampling_index`.
      batch_size: rows in a batch; epochs follow each other without a gap, so all are full.
      seed: of the order, the variants, the dropout and the augmentation.
      variants: tables that are [N, V, ...]: one of the V is drawn for each example of a batch, the
        same one in all these tables.
      null_rows: for some tables the row (without the V axis) that stands for "no caption".
      dropout: probability that an example's rows in those tables are replaced by the null rows, all
        of them together, as classifier-free guidance needs.
      pictures: tables that are uint8 [N, H, W, 3] and become float32 in [-1, 1].
      augment: how pictures are changed.

    Raises:
      ValueError: tables disagree in N or V, a name is not a table's, or a number is out of range.
    """

    tables: Mapping[str, np.ndarray]
    index: np.ndarray
    batch_size: int
    seed: int
    variants: tuple[str, ...] = ()
    null_rows: Mapping[str, np.ndarray] = dataclasses.field(default_factory=dict)
    dropout: float = 0.0
    pictures: tuple[str, ...] = ()
    augment: AugmentConfig = AugmentConfig()

    def __post_init__(self) -> None:
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

    def batches(self, start_step: int = 0) -> tf.data.Dataset:
        """An endless dataset of dicts: element k is the batch of step `start_step + k`."""
        tables = {name: tf.constant(table) for name, table in self.tables.items()}
        index = tf.constant(self.index, tf.int64)
        augmenter = Augmenter(self.augment) if self.augment != AugmentConfig() else None

        def draw(step: tf.Tensor) -> dict[str, tf.Tensor]:
            batch = self._gather(tables, self._rows(index, step), step)
            if augmenter:
                for name in self.pictures:
                    seed = self._stream(step, _AUGMENT_STREAM)
                    batch[name] = augmenter(images=batch[name], seed=seed)
            return self._finish(batch)

        steps = tf.data.Dataset.range(start_step, np.iinfo(np.int64).max)
        dataset = steps.map(draw, num_parallel_calls=tf.data.AUTOTUNE)
        return dataset.prefetch(2).with_options(_options())

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
        return self._finish(self._gather(tables, rows, step))

    def _gather(
        self, tables: Mapping[str, tf.Tensor], rows: tf.Tensor, step: tf.Tensor
    ) -> dict[str, tf.Tensor]:
        batch = {name: tf.gather(table, rows) for name, table in tables.items()}
        if self.variants:
            chosen = self._draw_variants(step)  # [B]
            for name in self.variants:
                batch[name] = tf.gather(batch[name], chosen, axis=1, batch_dims=1)  # [B, ...]
        if self.dropout:
            uniform = self._uniform(step, _DROPOUT_STREAM)  # [B]
            for name, row in self.null_rows.items():
                null = tf.constant(row, batch[name].dtype)[tf.newaxis]
                ones = [1] * (null.shape.rank - 1)
                dropped = tf.reshape(uniform < self.dropout, [self.batch_size, *ones])  # [B, 1...]
                batch[name] = tf.where(dropped, null, batch[name])
        return batch

    def _finish(self, batch: dict[str, tf.Tensor]) -> dict[str, tf.Tensor]:
        scaled = {name: tf.cast(batch[name], tf.float32) / 127.5 - 1.0 for name in self.pictures}
        return {**batch, **scaled}

    def _rows(self, index: tf.Tensor, step: tf.Tensor) -> tf.Tensor:
        """The rows of a step: places on an endless tape of epochs, each shuffled by its number."""
        size = tf.size(index, tf.int64)
        places = step * self.batch_size + tf.range(self.batch_size, dtype=tf.int64)
        epochs = places // size
        seed = tf.fill([self.batch_size], tf.cast(self.seed, tf.int64))
        seeds = tf.stack([seed, epochs, tf.zeros_like(epochs)], axis=1)  # [B, 3]
        # The public index_shuffle takes one seed for all places only; a batch may span two epochs.
        shuffled = tf.raw_ops.RandomIndexShuffle(
            index=places % size, seed=seeds, max_index=size - 1, rounds=ROUNDS
        )
        return tf.gather(index, shuffled)

    def _draw_variants(self, step: tf.Tensor) -> tf.Tensor:
        return tf.random.stateless_uniform(
            [self.batch_size],
            self._stream(step, _VARIANT_STREAM),
            maxval=self.tables[self.variants[0]].shape[1],
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
        named = {*self.variants, *self.null_rows, *self.pictures}
        strangers = sorted(named - set(self.tables))
        if strangers:
            raise ValueError(f"{strangers[0]!r} is not a table; the tables are {sorted(sizes)}")
        counts = {name: self.tables[name].shape[1] for name in self.variants}
        if len(set(counts.values())) > 1:
            raise ValueError(f"Variants must be equally many in all tables; they are {counts}")


def _options() -> tf.data.Options:
    options = tf.data.Options()
    options.deterministic = True
    # The steps are not files to be divided among workers: every worker counts the same steps.
    options.experimental_distribute.auto_shard_policy = tf.data.experimental.AutoShardPolicy.OFF
    return options
