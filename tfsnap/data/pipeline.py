"""tf.data pipelines in which the batch of a step is a pure function of the seed and the step.

Nothing is carried from batch to batch: the pipeline of a run that resumes at step 1000 is built
with `start_step=1000` and yields exactly what the interrupted run would have seen.
"""

from collections.abc import Mapping

import numpy as np
import tensorflow as tf

from tfsnap.data.augment import AugmentConfig
from tfsnap.data.examples import Examples
from tfsnap.data.source import BatchSource


def sampling_index(groups: np.ndarray, *, resample: float, seed: int) -> np.ndarray:
    """Repeats examples of small groups so that an epoch is more evenly divided.

    A group's share of the index is n^(1 - resample) over the sum of that over all groups, where n
    is its number of examples. Every example occurs at least once, and examples of one group occur
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
    source = BatchSource(
        tables=tables,
        index=index,
        batch_size=batch_size,
        seed=seed,
        variants=variants,
        null_rows=null_rows or {},
        dropout=dropout,
    )
    return source.batches(start_step)


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
    source = BatchSource(
        tables={"image": examples.images, "tokens": tokens},
        index=np.arange(len(examples.images)) if index is None else index,
        batch_size=batch_size,
        seed=seed,
        variants=("tokens",),
        null_rows={} if null_tokens is None else {"tokens": null_tokens},
        dropout=dropout,
        pictures=("image",),
        augment=augment or AugmentConfig(),
    )
    return source.batches(start_step)
