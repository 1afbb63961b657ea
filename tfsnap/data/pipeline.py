"""tf.data pipelines in which the batch of a step is a pure function of the seed and the step.

Nothing is carried from batch to batch: the pipeline of a run that resumes at step 1000 is built with
`start_step=1000` and yields exactly what the interrupted run would have seen.
"""

import dataclasses
from collections.abc import Mapping

import numpy as np
import tensorflow as tf

from tfsnap.data.augment import AugmentConfig, Augmenter
from tfsnap.data.examples import Examples

# Independent streams of random numbers that start from one seed.
_VARIANT_STREAM = 1
_DROPOUT_STREAM = 2
_AUGMENT_STREAM = 3


def sampling_index(groups: np.ndarray, *, resample: float, seed: int) -> np.ndarray:
    """Repeats examples of small groups so that an epoch is more evenly divided.

    A group's share of the index is n^(1 - resample) over the sum of that over all groups, where n is
    its number of examples. Every example occurs at least once, and examples of one group occur
    equally often up to one; which ones occur once more is drawn.

    Args:
      groups: int [N], the group of each example.
      resample: 0.0 keeps the natural shares, 1.0 makes all groups equal.
      seed: chooses the examples that are repeated once more than others.

    Returns:
      int64 [M], M >= N, row numbers in ascending order (`table_batches` shuffles).

    Raises:
      ValueError: `resample` is outside 0..1 or there are no examples.
    """
    if not 0.0 <= resample <= 1.0:
        raise ValueError(f"resample is {resample}; it must be from 0 (natural) to 1 (uniform)")
    if len(groups) == 0:
        raise ValueError("There are no examples to sample: choose a larger subset")
    names, counts = np.unique(groups, return_counts=True)
    targets = counts ** (1.0 - resample)
    # The group that is over-represented most keeps its size; the others grow to match it.
    targets = np.rint(targets * np.max(counts / targets)).astype(np.int64)
    random = np.random.default_rng(seed)
    rows = []
    for name, count, target in zip(names, counts, targets, strict=True):
        members = np.flatnonzero(groups == name)
        rows.append(np.tile(members, target // count))
        rows.append(random.choice(members, target % count, replace=False))
    return np.sort(np.concatenate(rows)).astype(np.int64)


def table_batches(
    tables: Mapping[str, np.ndarray],
    *,
    index: np.ndarray,
    batch_size: int,
    seed: int,
    start_step: int = 0,
    variants: tuple[str, ...] = (),
    null_rows: Mapping[str, np.ndarray] | None = None,
    dropout: float = 0.0,
) -> tf.data.Dataset:
    """Endless batches of rows of in-memory tables, shuffled anew in every epoch.

    Args:
      tables: arrays [N, ...] with the same N: row i of each belongs to example i.
      index: int64 [M], the rows of an epoch, see `sampling_index`.
      batch_size: rows in a batch; epochs follow each other without a gap, so all are full.
      seed: of the order, the variants and the dropout.
      start_step: the step of the first batch.
      variants: tables that are [N, V, ...]: one of the V is drawn for each example of a batch, the
        same one in all these tables.
      null_rows: for some tables the row (without the V axis) that stands for "no caption".
      dropout: probability that an example's rows in those tables are replaced by the null rows, all
        of them together, as classifier-free guidance needs.

    Returns:
      A dataset of dicts with the keys of `tables`: element k is the batch of step `start_step + k`.

    Raises:
      ValueError: tables disagree in N or V, a name is not a table's, or a number is out of range.

    Example:
      >>> data = table_batches({"latent": latents, "context": contexts}, index=index,
      ...                      batch_size=64, seed=0, variants=("context",),
      ...                      null_rows={"context": empty}, dropout=0.1)
    """
    null_rows = null_rows or {}
    _check(tables, index, batch_size, variants, null_rows, dropout)
    batcher = _Batcher(
        tables={name: tf.constant(table) for name, table in tables.items()},
        index=tf.constant(index, tf.int64),
        batch_size=batch_size,
        seed=seed,
        variants=variants,
        null_rows={name: tf.constant(row, tables[name].dtype) for name, row in null_rows.items()},
        dropout=dropout,
    )
    steps = tf.data.Dataset.range(start_step, np.iinfo(np.int64).max)
    return _finish(steps.map(batcher, num_parallel_calls=tf.data.AUTOTUNE))


def image_batches(
    examples: Examples,
    tokens: np.ndarray,
    *,
    batch_size: int,
    seed: int,
    start_step: int = 0,
    index: np.ndarray | None = None,
    null_tokens: np.ndarray | None = None,
    dropout: float = 0.0,
    augment: AugmentConfig | None = None,
) -> tf.data.Dataset:
    """Endless batches of pictures and their tokenized captions.

    Args:
      examples: the pictures.
      tokens: int32 [N, V, T], see `tfsnap.data.examples.tokenize_captions`.
      batch_size: pictures in a batch.
      seed: of the order, the caption variants, the dropout and the augmentation.
      start_step: the step of the first batch.
      index: the rows of an epoch; by default every picture once.
      null_tokens: int32 [T], the tokens of the empty caption; needed for `dropout` above 0.
      dropout: probability of the empty caption.
      augment: how pictures are changed; by default not at all.

    Returns:
      A dataset of {"image": float32 [B, R, R, 3] in [-1, 1], "tokens": int32 [B, T]}: element k is
      the batch of step `start_step + k`.

    Raises:
      ValueError: as in `table_batches`.
    """
    batches = table_batches(
        {"image": examples.images, "tokens": tokens},
        index=np.arange(len(examples.images)) if index is None else index,
        batch_size=batch_size,
        seed=seed,
        start_step=start_step,
        variants=("tokens",),
        null_rows=None if null_tokens is None else {"tokens": null_tokens},
        dropout=dropout,
    )
    augmenter = Augmenter(augment) if augment and augment != AugmentConfig() else None

    def prepare(step: tf.Tensor, batch: dict[str, tf.Tensor]) -> dict[str, tf.Tensor]:
        images = batch["image"]
        if augmenter:
            images = augmenter(images=images, seed=_stream(seed, step, _AUGMENT_STREAM))
        return {**batch, "image": tf.cast(images, tf.float32) / 127.5 - 1.0}

    batches = batches.enumerate(start_step).map(prepare, num_parallel_calls=tf.data.AUTOTUNE)
    return _finish(batches)


@dataclasses.dataclass(frozen=True)
class _Batcher:
    """Maps a step to its batch."""

    tables: dict[str, tf.Tensor]
    index: tf.Tensor
    batch_size: int
    seed: int
    variants: tuple[str, ...]
    null_rows: dict[str, tf.Tensor]
    dropout: float

    def __call__(self, step: tf.Tensor) -> dict[str, tf.Tensor]:
        rows = self._rows(step)  # [B]
        batch = {name: tf.gather(table, rows) for name, table in self.tables.items()}
        if self.variants:
            chosen = self._draw_variants(step)  # [B]
            for name in self.variants:
                batch[name] = tf.gather(batch[name], chosen, axis=1, batch_dims=1)  # [B, ...]
        if self.dropout:
            uniform = tf.random.stateless_uniform(
                [self.batch_size], _stream(self.seed, step, _DROPOUT_STREAM)
            )
            for name, row in self.null_rows.items():
                ones = [1] * row.shape.rank
                dropped = tf.reshape(uniform < self.dropout, [self.batch_size, *ones])  # [B, 1...]
                batch[name] = tf.where(dropped, row[tf.newaxis], batch[name])
        return batch

    def _rows(self, step: tf.Tensor) -> tf.Tensor:
        """The rows of a step: places on an endless tape of epochs, each shuffled by its number."""
        size = tf.size(self.index, tf.int64)
        places = step * self.batch_size + tf.range(self.batch_size, dtype=tf.int64)
        epochs = places // size
        seed = tf.fill([self.batch_size], tf.cast(self.seed, tf.int64))
        seeds = tf.stack([seed, epochs, tf.zeros_like(epochs)], axis=1)  # [B, 3]
        # The public index_shuffle takes one seed for all places only; a batch may span two epochs.
        shuffled = tf.raw_ops.RandomIndexShuffle(
            index=places % size, seed=seeds, max_index=size - 1, rounds=4
        )
        return tf.gather(self.index, shuffled)

    def _draw_variants(self, step: tf.Tensor) -> tf.Tensor:
        return tf.random.stateless_uniform(
            [self.batch_size],
            _stream(self.seed, step, _VARIANT_STREAM),
            maxval=self.tables[self.variants[0]].shape[1],
            dtype=tf.int32,
        )


def _stream(seed: int, step: tf.Tensor, stream: int) -> tf.Tensor:
    """The stateless seed of one use of random numbers at one step."""
    pair = tf.stack([tf.cast(seed, tf.int64), tf.cast(step, tf.int64)])
    return tf.random.experimental.stateless_fold_in(pair, stream)


def _finish(dataset: tf.data.Dataset) -> tf.data.Dataset:
    options = tf.data.Options()
    options.deterministic = True
    # The steps are not files to be divided among workers: every worker counts the same steps.
    options.experimental_distribute.auto_shard_policy = tf.data.experimental.AutoShardPolicy.OFF
    return dataset.prefetch(2).with_options(options)


def _check(
    tables: Mapping[str, np.ndarray],
    index: np.ndarray,
    batch_size: int,
    variants: tuple[str, ...],
    null_rows: Mapping[str, np.ndarray],
    dropout: float,
) -> None:
    sizes = {name: len(table) for name, table in tables.items()}
    if len(set(sizes.values())) != 1:
        raise ValueError(f"Tables must have the same number of rows; they have {sizes}")
    strangers = sorted({*variants, *null_rows} - set(tables))
    if strangers:
        raise ValueError(f"{strangers[0]!r} is not a table; the tables are {sorted(tables)}")
    counts = {name: tables[name].shape[1] for name in variants}
    if len(set(counts.values())) > 1:
        raise ValueError(f"Variants must be equally many in all tables; they are {counts}")
    rows = next(iter(sizes.values()))
    if len(index) == 0 or np.min(index) < 0 or np.max(index) >= rows:
        raise ValueError(f"index must hold row numbers from 0 to {rows - 1}, at least one")
    if batch_size < 1:
        raise ValueError(f"batch_size is {batch_size}; it must be at least 1")
    if not 0.0 <= dropout <= 1.0:
        raise ValueError(f"dropout is {dropout}; it must be from 0 to 1")
    if dropout and not null_rows:
        raise ValueError(f"dropout is {dropout}, but no null rows are given to replace captions by")
