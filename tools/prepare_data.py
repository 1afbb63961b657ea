#!/usr/bin/env python3
"""Fetches and draws emoji, or makes pictures of your own ready for training.

    tools/prepare_data.py --dataset=emoji --resolution=64
    tools/prepare_data.py --dataset=folder --path=photos --resolution=64 --output=data/photos
    tools/prepare_data.py --dataset=webdataset --path='cc3m-{0000..0331}.tar' --output=data/cc3m
    tools/prepare_data.py --dataset=tfds --path=coco_captions:train --output=data/coco

Nothing is done twice; run the same command again after an interruption. Emoji are prepared by the
other tools themselves; the others are trained on with --config.data.dataset=OUTPUT.

    tools/prepare_data.py --config=configs/emoji/unet.py:demo --latents=runs/demo/latents

encodes the pictures and captions of a UNet's config with its autoencoder and its CLIP, so that
training reads neither again: tools/train.py --config=... --config.latents=runs/demo/latents
"""

import os
import pathlib
import sys

from absl import app, flags, logging
from ml_collections import config_flags

# Programs are run from anywhere: the repository's root holds `configs` and `tools`.
sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))

from tfsnap.data.fetch import EMOJI_TARBALLS, fetch_merges, fetch_tarball
from tfsnap.data.prepared.build import prepare_set
from tfsnap.data.prepared.recipe import Recipe
from tfsnap.data.progress import shown_progress
from tfsnap.data.readers.entry import Reader
from tfsnap.data.readers.folder import FolderReader
from tfsnap.data.readers.webdataset import WebDatasetReader
from tools.program import run_main
from tools.unused_flags import given, refuse

_DATASET = flags.DEFINE_enum(
    "dataset", "emoji", ["emoji", "folder", "webdataset", "tfds"], "What it is, or where it lies."
)
_PATH = flags.DEFINE_string("path", None, "A folder; tars, 'x-{00..09}.tar'; NAME:SPLIT of TFDS.")
_OUTPUT = flags.DEFINE_string("output", None, "With --path: the folder of the prepared set.")
_CAPTIONS = flags.DEFINE_string("captions", None, "Of a folder: a .csv, .tsv or .jsonl file.")
_IMAGE = flags.DEFINE_string("image_feature", None, "Of TFDS, where it is not clear.")
_CAPTION = flags.DEFINE_string("caption_feature", None, "Of TFDS, where it is not clear.")
_MIN_SIZE = flags.DEFINE_integer("min_size", 0, "Shortest side; 0 is half the resolution.")
_VALIDATION = flags.DEFINE_float("validation", 0.05, "Share of pictures kept from training.")
_BUCKETS = flags.DEFINE_bool("buckets", False, "Several shapes instead of a square crop.")
_BUCKET_STEP = flags.DEFINE_integer("bucket_step", 0, "Of their sides; 0 is resolution / 8.")
_RESOLUTION = flags.DEFINE_integer("resolution", 64, "Side of the square pictures, in pixels.", 1)
_DATA_DIR = flags.DEFINE_string("data_dir", None, "Where emoji, or TFDS's data sets, are kept.")
_CONFIG = config_flags.DEFINE_config_file("config", None, "With --latents: the UNet's config.")
_LATENTS = flags.DEFINE_string("latents", None, "Write a cache of latents into this folder.")
_AUGMENTATIONS = flags.DEFINE_integer(
    "augmentations", 1, "Latents of each picture; more than 1 need config.data.augment.", 1
)
_DTYPE = flags.DEFINE_enum("dtype", "float16", ["float16", "bfloat16"], "Type of the cache.")
_EMBEDDINGS = flags.DEFINE_bool(
    "embeddings", True, "Store the captions' embeddings; without them training needs CLIP."
)

# Flags, and the values of --dataset that they say something about; None is --latents.
_OWN = ("folder", "webdataset", "tfds")
_USED = (
    ((_DATASET, _RESOLUTION), ("emoji", *_OWN)),
    ((_PATH, _OUTPUT, _MIN_SIZE, _VALIDATION, _BUCKETS, _BUCKET_STEP), _OWN),
    ((_CAPTIONS,), ("folder",)),
    ((_IMAGE, _CAPTION), ("tfds",)),
    ((_DATA_DIR,), ("emoji", "tfds", None)),
    ((_AUGMENTATIONS, _DTYPE, _EMBEDDINGS), (None,)),
)


def _require_used_flags(dataset: str | None) -> None:
    """Refuses flags that would change nothing for a value of --dataset, or None for --latents."""
    for unused, datasets in _USED:
        if dataset in datasets:
            continue
        if dataset is None:
            refuse(given(*unused), "--latents, which has the data of --config")
        choices = (f"--dataset={name}" if name else "--latents" for name in datasets)
        refuse(given(*unused), f"--dataset={dataset}", f"give {' or '.join(choices)}")


def _encode() -> None:
    """Writes the cache of latents, and says what it is and how to use it."""
    if not (_CONFIG.value and _LATENTS.value):
        raise app.UsageError("--config and --latents go together")
    # Here, so that --help does not wait for TensorFlow.
    from tfsnap.heap import keep_freed_memory
    from tfsnap.training.jobs import UNetJob, job_from_dict
    from tfsnap.training.jobs.encoding import encode_latents

    keep_freed_memory()
    if _DATA_DIR.value:
        os.environ["TFSNAP_DATA"] = _DATA_DIR.value
    job = job_from_dict(_CONFIG.value.to_dict())
    if not isinstance(job, UNetJob):
        raise ValueError(f"--latents needs a UNet's config; this one trains the {job.label}")
    encoded = encode_latents(
        job.replace(latents=""),
        _LATENTS.value,
        augmentations=_AUGMENTATIONS.value,
        dtype=_DTYPE.value,
        embeddings=_EMBEDDINGS.value,
        progress=shown_progress("encoding"),
    )
    for name, table in {"moments": encoded.moments, **encoded.captions}.items():
        print(f"{name:12} {table.dtype!s:9} {list(table.shape)}")
    size = sum(file.stat().st_size for file in pathlib.Path(_LATENTS.value).rglob("*.*"))
    print(f"Latents: {_LATENTS.value}, {size / 1e6:.1f} MB")
    print(f"Train:   tools/train.py --config=... --config.latents={_LATENTS.value}")


def _reader() -> Reader:
    """Opens what --path names."""
    if _DATASET.value == "folder":
        return FolderReader(_PATH.value, captions=_CAPTIONS.value)
    if _DATASET.value == "webdataset":
        return WebDatasetReader(_PATH.value)
    from tfsnap.data.readers.tfds_set import TfdsReader  # Here: TensorFlow takes seconds to load.

    features = {"image_feature": _IMAGE.value, "caption_feature": _CAPTION.value}
    return TfdsReader(_PATH.value, data_dir=_DATA_DIR.value, **features)


def _prepare_own() -> None:
    """Makes a prepared set, and says what is in it, what was skipped and how to use it."""
    if not (_PATH.value and _OUTPUT.value):
        raise ValueError(f"--dataset={_DATASET.value} needs --path and --output")
    if _BUCKET_STEP.value and not _BUCKETS.value:
        raise ValueError(f"--bucket_step={_BUCKET_STEP.value} is for --buckets: add it")
    recipe = Recipe(
        resolution=_RESOLUTION.value,
        buckets=_BUCKETS.value,
        bucket_step=_BUCKET_STEP.value,
        min_size=_MIN_SIZE.value,
        validation=_VALIDATION.value,
    )
    report = prepare_set(_reader(), _OUTPUT.value, recipe, progress=shown_progress("reading"))
    print("\n".join(report.lines()))
    print(f"Data:  {_OUTPUT.value}; its report.json has these numbers, too")
    size = f"--config.data.resolution={recipe.resolution}"
    print(f"Train: tools/train.py --config=... --config.data.dataset={_OUTPUT.value} {size}")


def _prepare_emoji() -> None:
    from tfsnap.data import emoji

    for tarball in EMOJI_TARBALLS:
        print(f"fetched: {fetch_tarball(tarball, data_dir=_DATA_DIR.value)}", flush=True)
    print(f"fetched: {fetch_merges(data_dir=_DATA_DIR.value)}", flush=True)
    side, root, progress = _RESOLUTION.value, _DATA_DIR.value, shown_progress("drawing")
    builder = emoji.prepare(resolution=side, data_dir=root, progress=progress)
    for name, split in builder.info.splits.items():
        print(f"{name:12} {split.num_examples:6} pictures")
    print(f"Data: {builder.data_dir}")


def main() -> None:
    logging.set_verbosity(logging.ERROR)  # TFDS warns of every folder that it is to create.
    encodes = bool(_LATENTS.value or _CONFIG.value)
    _require_used_flags(None if encodes else _DATASET.value)
    own = _prepare_emoji if _DATASET.value == "emoji" else _prepare_own
    _encode() if encodes else own()


if __name__ == "__main__":
    run_main(main, after="the same command goes on")
