"""Encodes the pictures and captions of a UNet job into a cache, see `tfsnap.training.jobs.latents`.

Pictures are written in groups, a shard of each part at a time: who is killed at any moment goes on
from the last whole shard.
"""

import os
import pathlib
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import tensorflow as tf

from tfsnap.data.augment import AugmentConfig, Augmenter
from tfsnap.data.shards import ShardWriter, TableSpec
from tfsnap.training.jobs.autoencoder import moment_encoder
from tfsnap.training.jobs.latents import PARTS, Latents, facts, open_latents
from tfsnap.training.jobs.unet import UNetJob

DTYPES = ("float16", "bfloat16")

_SHARD_BYTES = 2**28  # What the largest shards hold; also what is lost when the program is killed.
_SHARD_PICTURES = 1024
_TOGETHER = 64  # Pictures that are augmented together, and captions that are encoded together.

Progress = Callable[[int, int], None]


def encode_latents(
    job: UNetJob,
    folder: str | os.PathLike,
    *,
    augmentations: int = 1,
    dtype: str = "float16",
    embeddings: bool = True,
    progress: Progress | None = None,
) -> Latents:
    """Writes a cache of latents, or what is missing or damaged in it.

    Args:
      job: its pictures, captions and trained networks; `data.augment` says how pictures change.
      folder: where the cache is, or will be.
      augmentations: latents of each picture; the first is of the picture itself.
      dtype: a name of `DTYPES`, for latents and embeddings.
      embeddings: store what the text encoder makes of each caption. Without them a cache is smaller
        and training needs CLIP.
      progress: called with the number of pictures that are done, and of all.

    Returns:
      The cache, opened.

    Raises:
      ValueError: a number is out of range, or augmentations would not change pictures, or a value
        does not fit `dtype`, or the pictures have several shapes.
      ShardError: the folder holds a cache of something else; the message says what differs.
      WeightFileError: a network cannot be loaded.
    """
    if augmentations < 1:
        raise ValueError(f"augmentations is {augmentations}; it must be at least 1")
    if augmentations > 1 and job.data.augment == AugmentConfig():
        raise ValueError(
            f"augmentations is {augmentations}, but data.augment changes nothing: set "
            "data.augment.translation or data.augment.zoom, or ask for 1"
        )
    encoder = _Encoder(job, augmentations=augmentations, dtype=dtype, embeddings=embeddings)
    writers = encoder.writers(pathlib.Path(folder))
    encoder.write(writers, progress or (lambda done, total: None))
    for writer in writers.values():
        writer.finish()
    return open_latents(
        folder,
        data=job.data,
        context_width=job.model.context_width,
        weights=job.weights,
        tokens=job.tokens,
    )


class _Encoder:
    """Makes the rows of every part of a cache. The arguments are those of `encode_latents`."""

    def __init__(self, job: UNetJob, *, augmentations: int, dtype: str, embeddings: bool):
        if len(job.pictures) > 1:
            raise ValueError(
                f"{job.data.dataset} has pictures of {len(job.pictures)} shapes; a cache holds one "
                "shape only: prepare the set without --buckets, or train without a cache"
            )
        self._job = job
        (self._pictures,) = job.pictures.values()
        self._augmentations = augmentations
        self._dtype = dtype
        self._embeddings = embeddings
        self._moments_of = moment_encoder(job.trained_autoencoder)
        self._context_of = tf.function(job.text_encoder, reduce_retracing=True)
        self._augmenter = Augmenter(job.data.augment) if augmentations > 1 else None
        self._make = {
            "moments": self._moments,
            "captions": self._captions,
            "groups": self._groups,
            "empty": self._empty,
        }

    def writers(self, folder: pathlib.Path) -> dict[str, ShardWriter]:
        """One writer for each part; shard k of each holds the same pictures."""
        tokens = self._pictures.tokens
        pictures, variants, _ = tokens.shape
        each = {"moments": self._augmentations, "captions": variants, "groups": 1}
        specs = self._specs()
        largest = max(
            rows * sum(table.size for table in specs[part].values()) for part, rows in each.items()
        )
        together = max(1, min(_SHARD_PICTURES, _SHARD_BYTES // largest))
        about = self._about()
        sizes = {part: (pictures * rows, together * rows) for part, rows in each.items()}
        sizes["empty"] = (1, 1)
        return {
            part: ShardWriter(
                folder / part, tables=specs[part], rows=rows, rows_per_shard=per, about=about
            )
            for part, (rows, per) in sizes.items()
        }

    def write(self, writers: Mapping[str, ShardWriter], progress: Progress) -> None:
        """Writes the shards that are missing, the pictures in order."""
        missing = {part: set(writer.missing()) for part, writer in writers.items()}
        total = len(self._pictures.tokens)
        for shard in sorted(set.union(*missing.values())):
            for part in PARTS:
                if shard in missing[part]:
                    rows = writers[part].rows_of(shard)
                    writers[part].write(shard, self._make[part](rows))
            progress(min(total, writers["groups"].rows_of(shard).stop), total)

    def _about(self) -> dict[str, Any]:
        job = self._job
        weights, more = job.weights, {}
        if not self._embeddings:
            weights, more = {"autoencoder": job.autoencoder}, {"tokens": job.tokens()}
        return {
            **facts(job.data, augmentations=self._augmentations, weights=weights),
            **more,
            "augmentations": self._augmentations,
            "variants": self._pictures.tokens.shape[1],
            "context": [self._pictures.tokens.shape[2], job.text_encoder.config.width],
            "embeddings": self._embeddings,
            "dtype": self._dtype,
            "scale": job.trained_autoencoder.config.scale,
        }

    def _specs(self) -> dict[str, dict[str, TableSpec]]:
        """One row of every table, by part."""
        config = self._job.trained_autoencoder.config
        side = self._job.data.resolution // config.downsampling
        length, width = self._about()["context"]
        captions = {"tokens": TableSpec("int32", (length,))}
        if self._embeddings:
            captions["context"] = TableSpec(self._dtype, (length, width))
        moments = TableSpec(self._dtype, (side, side, 2 * config.latent_channels))
        groups = {"group": TableSpec("int32", ())}
        return {"moments": {"moments": moments}, "captions": captions, "groups": groups} | {
            "empty": captions
        }

    def _moments(self, rows: range) -> dict[str, np.ndarray]:
        """Rows of `moments`: all augmentations of one picture after those of another."""
        count = self._augmentations
        encoded = []
        for start in range(rows.start // count, rows.stop // count, _TOGETHER):
            stop = min(start + _TOGETHER, rows.stop // count)
            views = [self._moments_of(view) for view in self._views(range(start, stop))]
            encoded.append(np.stack(views, axis=1))  # [n, A, h, w, 2c]
        moments = np.concatenate(encoded)
        return {"moments": self._narrow(moments.reshape(-1, *moments.shape[2:]))}  # [n * A, ...]

    def _views(self, pictures: range) -> list[np.ndarray]:
        """Some pictures and their augmentations, A arrays [n, R, R, 3] in [0, 255]."""
        images = self._pictures.examples.images[pictures.start : pictures.stop]
        amounts = np.stack(
            [
                # Seeded by the picture's number: it does not matter who is encoded with it.
                np.random.default_rng(number).uniform(-1.0, 1.0, [self._augmentations - 1, 3])
                for number in pictures
            ],
            axis=1,
        )  # [A - 1, n, 3]
        return [images, *(self._augmenter(images=images, amounts=a).numpy() for a in amounts)]

    def _captions(self, rows: range) -> dict[str, np.ndarray]:
        tokens = self._pictures.tokens
        return self._read(tokens.reshape(-1, tokens.shape[-1])[rows.start : rows.stop])  # [n, T]

    def _empty(self, rows: range) -> dict[str, np.ndarray]:
        return self._read(self._pictures.null_tokens[np.newaxis])  # [1, T]

    def _groups(self, rows: range) -> dict[str, np.ndarray]:
        return {"group": self._pictures.examples.groups[rows.start : rows.stop]}

    def _read(self, tokens: np.ndarray) -> dict[str, np.ndarray]:
        """Captions, and what the text encoder makes of them."""
        if not self._embeddings:
            return {"tokens": tokens}
        starts = range(0, len(tokens), _TOGETHER)
        context = [self._context_of(tf.constant(tokens[i : i + _TOGETHER])) for i in starts]
        return {"tokens": tokens, "context": self._narrow(np.concatenate(context))}

    def _narrow(self, values: np.ndarray) -> np.ndarray:
        """Rounds to the type on disk."""
        with np.errstate(over="ignore"):  # Looked for below.
            narrow = values.astype(TableSpec(self._dtype, ()).numpy)
        if not np.isfinite(narrow).all():
            raise ValueError(
                f"a value of {np.abs(values).max():g} does not fit {self._dtype}: use bfloat16, "
                "or check the networks' weights"
            )
        return narrow
