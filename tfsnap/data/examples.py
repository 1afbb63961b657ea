"""Data sets: pictures, captions and what is known about them."""

import dataclasses
import difflib
import io
import os
from collections.abc import Callable
from typing import Any

import numpy as np
from PIL import Image

from tfsnap.config import Config
from tfsnap.data import captions
from tfsnap.data.tables import StoredTable
from tfsnap.tokenizer import Tokenizer

DATASETS = ("emoji",)
ALL = "all"  # Every split that a data set has.

_READ_TOGETHER = 1024

# What each field of a `Subset` filters.
_FILTERS = {"labels": "label", "groups": "group", "styles": "style", "tones": "tone"}


@dataclasses.dataclass(frozen=True)
class Examples:
    """Pictures with captions; entry i of every field belongs to picture i.

    Attributes:
      images: uint8 [N, R, R, 3], composited on white; of a prepared set that is too large for
        memory a `StoredTable` that is sliced like an array.
      captions: N tuples of V captions; the first is the canonical one.
      groups: int32 [N], index into `group_names`.
      group_names: names of all groups of the data set.
      keys: unique ids, "1f44d-1f3ff/noto", ascending; those of a prepared set are the pictures'
        names in the order of their splits.
      labels: what is shown, "thumbs up".
      styles: how it is drawn, "noto".
      tones: skin tone, "dark", "light+dark" for two people, or "".
    """

    images: np.ndarray | StoredTable
    captions: tuple[tuple[str, ...], ...]
    groups: np.ndarray
    group_names: tuple[str, ...]
    keys: tuple[str, ...]
    labels: tuple[str, ...] = ()
    styles: tuple[str, ...] = ()
    tones: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.images)

    @property
    def canonical(self) -> list[str]:
        """The first caption of every picture."""
        return [variants[0] for variants in self.captions]


@dataclasses.dataclass(frozen=True)
class Subset(Config):
    """Which examples to load: those that pass every filter; None lets everything pass.

    Args:
      labels: names of concepts, ("thumbs up", "purple heart").
      groups: ("people-body", "food-drink").
      styles: ("noto", "fluent 3d").
      tones: ("", "light", "dark"); "" stands for emoji without a skin tone.

    Example:
      >>> Subset(labels=("thumbs up", "red heart"), tones=("", "dark"))
    """

    labels: tuple[str, ...] | None = None
    groups: tuple[str, ...] | None = None
    styles: tuple[str, ...] | None = None
    tones: tuple[str, ...] | None = None


def load_examples(
    *,
    dataset: str = "emoji",
    split: str = "train",
    resolution: int = 64,
    subset: Subset | None = None,
    caption_variants: int = 8,
    seed: int = 0,
    data_dir: str | os.PathLike | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Examples:
    """Loads a split, after fetching and building the data set where that was not done before.

    Args:
      dataset: a name of `DATASETS`, or the folder of a prepared set, see `tfsnap.data.prepared`.
      split: "train", "validation", "holdout", several joined by "+", or "all" of those there are;
        only emoji have a holdout.
      resolution: side length in pixels.
      subset: what to load of the split; by default everything.
      caption_variants: captions of each picture, the canonical one included. Those of a prepared
        set are repeated where a picture has fewer.
      seed: of the caption variants.
      data_dir: see `tfsnap.data.fetch.data_root`.
      progress: while building, called with the number of pictures drawn and the number of all.

    Returns:
      The examples in the order of their keys.

    Raises:
      FetchError: the data set cannot be fetched.
      ShardError: a prepared set is not finished, or damaged.
      ValueError: an argument is out of range, or `subset` names what no picture of the data set
        has, or nothing of the split is in it.

    Example:
      >>> few = Subset(labels=("thumbs up", "red heart"), styles=("noto", "twemoji"))
      >>> examples = load_examples(resolution=32, subset=few)
    """
    if dataset not in DATASETS:
        return _load_prepared(dataset, split, resolution, subset, caption_variants)
    # Imported here: TFDS takes seconds to load, and this module's classes are of use without it.
    from tfsnap.data import emoji

    builder = emoji.prepare(resolution=resolution, data_dir=data_dir, progress=progress)
    split = _known_split(split, list(builder.info.splits))
    rows = _read_rows(builder, split)
    subset = subset or Subset()
    if _strangers(subset, rows):  # They may be in another split.
        _check_names(subset, _read_rows(builder, "+".join(builder.info.splits)))
    chosen = [row for row in rows if _selected(row, subset)]
    if not chosen:
        raise ValueError(f"No picture of the split {split!r} is in {subset}: choose a wider one")
    return _examples(
        sorted(chosen, key=lambda row: row["key"]),
        group_names=tuple(builder.info.features["group"].names),
        variants=caption_variants,
        seed=seed,
    )


def _load_prepared(
    folder: str, split: str, resolution: int, subset: Subset | None, caption_variants: int
) -> Examples:
    # Imported here, because it makes this module's `Examples`.
    from tfsnap.data.prepared.load import PreparedSet, is_prepared

    if not is_prepared(folder):
        raise ValueError(
            f"dataset is {folder!r}; it must be one of {', '.join(DATASETS)}, or a folder that "
            "tools/prepare_data.py --output=... made"
        )
    prepared = PreparedSet(folder, resolution=resolution)
    return prepared.examples(split, caption_variants=caption_variants, subset=subset)


def spread(available: int, count: int) -> np.ndarray:
    """Which of some examples stand for all: spread evenly, or each about equally often.

    Returns:
      int [count] below `available`.

    Example:
      >>> spread(9, 3)
      array([0, 4, 8])
    """
    if count > available:
        return np.arange(count) % available
    return np.linspace(0, available - 1, count).astype(int)


def tokenize_captions(examples: Examples, tokenizer: Tokenizer) -> np.ndarray:
    """Tokenizes all captions of all examples.

    Args:
      examples: N examples with V captions each.
      tokenizer: its context length is T.

    Returns:
      int32 [N, V, T].
    """
    variants = len(examples.captions[0])
    flat = [caption for captions_ in examples.captions for caption in captions_]
    return tokenizer(flat).reshape(len(examples), variants, -1)  # [N, V, T]


def _read_rows(builder: Any, split: str) -> list[dict[str, Any]]:
    """Reads a split's features as Python values, the pictures still encoded."""
    import tensorflow_datasets as tfds

    # In batches, because every element costs TFDS a round trip through Python.
    dataset = builder.as_dataset(split=split, decoders={"image": tfds.decode.SkipDecoding()})
    batches = tfds.as_numpy(dataset.ragged_batch(_READ_TOGETHER))
    return [row for batch in batches for row in _batch_rows(batch, builder.info.features)]


def _batch_rows(batch: dict[str, Any], features: Any) -> list[dict[str, Any]]:
    def text(name: str) -> list[str]:
        return [value.decode() for value in batch[name]]

    def names(name: str) -> list[str]:
        return [features[name].names[number] for number in batch[name]]

    columns = {
        "image": batch["image"],
        "label": text("label"),
        "tags": [[tag.decode() for tag in tags] for tags in batch["tags"].to_list()],
        "group": names("group"),
        "style": names("style"),
        "tone": text("tone"),
        "key": [
            f"{code_point}/{style.replace(' ', '-')}"
            for code_point, style in zip(text("code_point"), names("style"), strict=True)
        ],
    }
    rows = zip(*columns.values(), strict=True)
    return [dict(zip(columns, row, strict=True)) for row in rows]


def _selected(row: dict[str, Any], subset: Subset) -> bool:
    filters = ((getattr(subset, plural), row[name]) for plural, name in _FILTERS.items())
    return all(wanted is None or value in wanted for wanted, value in filters)


def _known_split(split: str, known: list[str]) -> str:
    """The split in TFDS's terms."""
    if split == ALL:
        return "+".join(known)
    for name in split.split("+"):
        if name not in known:
            raise ValueError(f"split is {name!r}; it must be one of {sorted(known)}, or {ALL!r}")
    return split


def _strangers(subset: Subset, rows: list[dict[str, Any]]) -> list[tuple[str, str]]:
    """The field and the name of everything in `subset` that none of the rows bears."""
    return [
        (singular, name)
        for plural, singular in _FILTERS.items()
        for name in getattr(subset, plural) or ()
        if all(row[singular] != name for row in rows)
    ]


def _check_names(subset: Subset, rows: list[dict[str, Any]]) -> None:
    """Raises for the first name in `subset` that no picture bears."""
    for field, name in _strangers(subset, rows):
        near = difflib.get_close_matches(name, {row[field] for row in rows}, n=3, cutoff=0.4)
        hint = f"did you mean {', '.join(map(repr, near))}?" if near else "check the spelling"
        raise ValueError(f"No picture has the {field} {name!r}: {hint}")


def _examples(
    rows: list[dict[str, Any]], *, group_names: tuple[str, ...], variants: int, seed: int
) -> Examples:
    def column(name: str) -> tuple[str, ...]:
        return tuple(row[name] for row in rows)

    return Examples(
        images=np.stack([np.asarray(Image.open(io.BytesIO(row["image"]))) for row in rows]),
        captions=tuple(
            captions.caption_variants(
                label=row["label"],
                tags=row["tags"],
                tone=row["tone"],
                style=row["style"],
                count=variants,
                seed=seed,
            )
            for row in rows
        ),
        groups=np.array([group_names.index(row["group"]) for row in rows], np.int32),
        group_names=group_names,
        keys=column("key"),
        labels=column("label"),
        styles=column("style"),
        tones=column("tone"),
    )
