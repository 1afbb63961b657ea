#!/usr/bin/env python3
r"""Writes what real pictures look like to a network, for distances from them.

    tools/reference_statistics.py --folder=val2014 --side=256 --inception=pt_inception.pth \
        --output=coco.npz
    tools/reference_statistics.py --tfds=coco_captions:val --side=256 \
        --clip=clip-l/clip.safetensors --output=coco-clip.npz
    tools/reference_statistics.py --dataset=emoji --split=validation --resolution=64 \
        --clip=runs/emoji/clip/weights.safetensors --output=validation.npz

The file has mu and sigma, which pytorch-fid reads too, and the features themselves, which KID, CMMD
and floors need. tools/sweep.py --references=NAME=FILE compares with it. See docs/metrics.md.
"""

import pathlib
import sys
from collections.abc import Iterator

import numpy as np
from absl import app, flags
from PIL import Image

# Programs are run from anywhere: the repository's root holds `tools`.
sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))

from tfsnap.data.examples import load_examples
from tfsnap.data.prepared.decode import decode
from tfsnap.data.readers.entry import Entry, Skipped, UnusableError
from tfsnap.data.readers.folder import FolderReader
from tfsnap.metrics.distances import Moments
from tfsnap.metrics.features import FeatureSpace, clip_space, embed_all, inception_space
from tfsnap.metrics.framing import to_square
from tfsnap.metrics.reference import Reference, save_reference
from tfsnap.weights.archive import load_trained
from tfsnap.weights.from_pytorch_fid import load_inception
from tools.program import run_main

_FOLDER = flags.DEFINE_string("folder", None, "A folder of pictures, with those below it.")
_TFDS = flags.DEFINE_string("tfds", None, "Or a set of TFDS, NAME:SPLIT.")
_DATASET = flags.DEFINE_string("dataset", None, "Or emoji, or the folder of a prepared set.")
_SPLIT = flags.DEFINE_string("split", "validation", "Of --dataset; several are joined by a plus.")
_RESOLUTION = flags.DEFINE_integer("resolution", 64, "Of --dataset, in pixels.", 1)
_SIDE = flags.DEFINE_integer(
    "side", None, "Resize and crop to this square first, 256 for COCO; by default --resolution.", 1
)
_INCEPTION = flags.DEFINE_string("inception", None, "Inception's weights: for FID and KID.")
_CLIP = flags.DEFINE_string("clip", None, "Or a CLIP's weights: for CMMD as well.")
_FEATURES = flags.DEFINE_bool("features", True, "Keep the features, not their moments alone.")
_OUTPUT = flags.DEFINE_string("output", None, "The .npz to write.")

_BATCH = 64
_NEVER_REDUCED = 2**15  # A JPEG is decoded at its own size; to shrink it first changes pixels.


def _space() -> FeatureSpace:
    if _INCEPTION.value:
        return inception_space(load_inception(_INCEPTION.value))
    return clip_space(load_trained(_CLIP.value, "clip").model)


def _found() -> Iterator[Entry | Skipped]:
    if _FOLDER.value:
        return FolderReader(_FOLDER.value).pictures()
    # Imported here: TFDS takes seconds to load.
    from tfsnap.data.readers.tfds_set import TfdsReader

    return iter(TfdsReader(_TFDS.value, captioned=False))


def _squares(side: int, unusable: list[str]) -> Iterator[np.ndarray]:
    """Batches of pictures from files, uint8 [n, side, side, 3]."""
    batch: list[np.ndarray] = []
    for entry in _found():
        if isinstance(entry, Skipped):
            unusable.append(entry.name)
            continue
        try:
            image: Image.Image = decode(entry.read(), min_size=1, side=_NEVER_REDUCED)
        except (OSError, UnusableError):
            unusable.append(entry.name)
            continue
        batch.append(to_square(image, side))
        if len(batch) == _BATCH:
            yield np.stack(batch)
            batch = []
    if batch:
        yield np.stack(batch)


def _features(space: FeatureSpace, side: int) -> np.ndarray:
    if _DATASET.value:
        named = {"dataset": _DATASET.value, "split": _SPLIT.value, "resolution": _RESOLUTION.value}
        return embed_all(space, load_examples(**named).images, side=side)
    unusable: list[str] = []
    parts = [space.embed(images) for images in _squares(side, unusable)]
    if unusable:
        print(f"{len(unusable)} cannot be used, such as {unusable[0]}", file=sys.stderr)
    if not parts:
        raise ValueError(f"{_FOLDER.value or _TFDS.value} holds no picture that can be used")
    return np.concatenate(parts)


def _write() -> str:
    side = _SIDE.value or _RESOLUTION.value
    space = _space()
    features = _features(space, side)
    found = Reference.of(features, space=space, side=side)
    if not _FEATURES.value:
        found = Reference(Moments.of(features), None, found.space, side)
    save_reference(_OUTPUT.value, found)
    return f"{len(features)} pictures of {side} x {side} pixels, {space.name}: {_OUTPUT.value}"


def main() -> None:
    if sum(map(bool, (_FOLDER.value, _TFDS.value, _DATASET.value))) != 1:
        raise app.UsageError("give one of --folder, --tfds and --dataset")
    if bool(_INCEPTION.value) == bool(_CLIP.value):
        raise app.UsageError("give one of --inception and --clip")
    if not _DATASET.value and not _SIDE.value:
        raise app.UsageError("files need --side: 256 for COCO, or that of the generated pictures")
    print(_write())


if __name__ == "__main__":
    flags.mark_flag_as_required("output")
    run_main(main)
