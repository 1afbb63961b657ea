"""Batches of pictures of several shapes: each batch has one, chosen by seed and step."""

import dataclasses
from collections.abc import Mapping

import numpy as np
import tensorflow as tf

from tfsnap.data.shuffle import Words, epoch_keys
from tfsnap.data.source import BatchSource

_SEED_OFFSET = 0x5EED  # Another stream than the order of the rows has.
_WORD = 2**21  # `epoch_keys`' words are below it.
_COUNTED_TOGETHER = 2**20


@dataclasses.dataclass(frozen=True, eq=False)
class BucketSource:
    """Draws each batch from one of several sources, in proportion to their sizes.

    The batch of a step is a pure function of the seed and the step, and the batches of each source
    come in its own order: none of its examples is left out.

    Attributes:
      sources: by name or shape; with the same batch size.
      seed: of the choice.

    Raises:
      ValueError: there are no sources, or their batch sizes differ.

    Example:
      >>> buckets = prepared.buckets("train", caption_variants=5)
      >>> source = BucketSource({shape: BatchSource(...) for shape in buckets}, seed=0)
      >>> batches = source.batches(start_step=1000)
    """

    sources: Mapping[object, BatchSource]
    seed: int

    def __post_init__(self) -> None:
        sizes = {source.batch_size for source in self.sources.values()}
        if len(sizes) != 1:
            raise ValueError(f"batch sizes of buckets are {sorted(sizes)}; they must be one")

    def batches(self, start_step: int = 0, *, part: tuple[int, int] = (0, 1)) -> tf.data.Dataset:
        """An endless dataset: element k is the batch of step `start_step + k`.

        Args:
          start_step: the step of the first batch.
          part: see `BatchSource.batches`.
        """
        datasets = [
            source.batches(before, part=part)
            for source, before in zip(
                self.sources.values(), self.drawn_before(start_step), strict=True
            )
        ]
        steps = tf.data.Dataset.range(start_step, np.iinfo(np.int64).max)
        choices = steps.map(lambda step: self._choice(tf.cast(step, tf.uint64)[tf.newaxis])[0])
        return tf.data.Dataset.choose_from_datasets(datasets, choices, stop_on_empty_dataset=True)

    def at(self, step: int) -> dict[str, np.ndarray]:
        """The batch of one step, as arrays."""
        return next(self.batches(step).as_numpy_iterator())

    def chosen(self, steps: np.ndarray) -> np.ndarray:
        """Which source each step draws from.

        Args:
          steps: int [K].

        Returns:
          int64 [K], numbers of `sources` in their order.
        """
        words = epoch_keys(self.seed + _SEED_OFFSET, np.asarray(steps).astype(np.uint64))
        return np.searchsorted(self._limits(), words[0].astype(np.int64), side="right")

    def drawn_before(self, step: int) -> np.ndarray:
        """How many batches each source gave before a step, int64 [number of sources]."""
        counts = np.zeros(len(self.sources), np.int64)
        for start in range(0, step, _COUNTED_TOGETHER):
            steps = np.arange(start, min(step, start + _COUNTED_TOGETHER))
            counts += np.bincount(self.chosen(steps), minlength=len(counts))
        return counts

    def _choice(self, steps: Words) -> tf.Tensor:
        """`chosen` for tensors, uint64 [K]."""
        words = epoch_keys(self.seed + _SEED_OFFSET, steps)
        return tf.searchsorted(
            tf.constant(self._limits()),
            tf.cast(words[0], tf.int64),
            side="right",
            out_type=tf.int64,
        )

    def _limits(self) -> np.ndarray:
        """Words below the k-th limit belong to one of the first k + 1 sources, int64 [n - 1]."""
        sizes = [len(source.index) for source in self.sources.values()]
        return np.rint(np.cumsum(sizes)[:-1] / np.sum(sizes) * _WORD).astype(np.int64)
