"""Data sets that fit into memory: pictures, captions and what is known about them."""

import dataclasses
import difflib
import io
import os
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from PIL import Image

from tfsnap.config import Config
from tfsnap.data.captions import caption_variants
from tfsnap.tokenizer import Tokenizer

DATASETS = ("emoji",)


@dataclasses.dataclass(frozen=True)
class Examples:
    """Pictures with captions; entry i of every field belongs to picture i.

    Attributes:
      images: uint8 [N, R, R, 3], composited on white.
      captions: N tuples of V captions; the first is the canonical one.
      groups: int32 [N], index into `group_names`.
      group_names: names of all groups of the data set.
      keys: unique ids, "1f44d-1f3ff/noto", ascending.
      labels: what is shown, "thumbs up".
      styles: how it is drawn, "noto".
      tones: skin tone, "dark", "light+dark" for two people, or "".
    """

    images: np.ndarray
    captions: tuple[tuple[str, ...], ...]
    groups: np.ndarray
    group_names: tuple[str, ...]
    keys: tuple[str, ...]
    labels: tuple[str, ...] = ()
    styles: tuple[str, ...] = ()
    tones: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.images)


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
      dataset: a name of `DATASETS`.
      split: "train", "validation", "holdout", or several joined by "+".
      resolution: side length in pixels.
      subset: what to load of the split; by default everything.
      caption_variants: captions of each picture, the canonical one included.
      seed: of the caption variants.
      data_dir: see `tfsnap.data.fetch.data_root`.
      progress: while building, called with the number of pictures drawn and the number of all.

    Returns:
      The examples in the order of their keys.

    Raises:
      FetchError: the data set cannot be fetched.
      ValueError: an argument is out of range, or `subset` names what no picture of the data set has,
        or nothing of the split is in it.

    Example:
      >>> few = Subset(labels=("thumbs up", "red heart"), styles=("noto", "twemoji"))
      >>> examples = load_examples(resolution=32, subset=few)
    """
    if dataset not in DATASETS:
        raise ValueError(f"dataset is {dataset!r}; it must be one of {DATASETS}")
    # Imported here: TFDS takes seconds to load, and this module's classes are of use without it.
    from tfsnap.data import emoji

    builder = emoji.prepare(resolution=resolution, data_dir=data_dir, progress=progress)
    subset = subset or Subset()
    rows = [row for row in _rows(builder, split) if _selected(row, subset)]
    if not rows:
        _check_names(subset, list(_rows(builder, "all")))
        raise ValueError(f"No picture of the split {split!r} is in {subset}: choose a wider one")
    return _examples(
        sorted(rows, key=lambda row: row["key"]),
        group_names=tuple(builder.info.features["group"].names),
        variants=caption_variants,
        seed=seed,
    )


def tokenize_captions(examples: Examples, tokenizer: Tokenizer) -> np.ndarray:
    """Tokenizes all caption variants.

    Returns:
      int32 [N, V, T], T being the tokenizer's context length.
    """
    rows = [tokenizer(list(variants)) for variants in examples.captions]
    return np.stack(rows).astype(np.int32)


def _rows(builder: Any, split: str) -> Iterator[dict[str, Any]]:
    """The examples of a split as TFDS stores them, with pictures still encoded."""
    import tensorflow_datasets as tfds

    dataset = builder.as_dataset(
        split=split, decoders={"image": tfds.decode.SkipDecoding()}, shuffle_files=False
    )
    features = builder.info.features
    for row in tfds.as_numpy(dataset):
        style = features["style"].int2str(int(row["style"]))
        code_point = row["code_point"].decode()
        yield {
            "key": f"{code_point}/{style.replace(' ', '-')}",
            "image": row["image"],
            "label": row["label"].decode(),
            "tags": [tag.decode() for tag in row["tags"]],
            "group": int(row["group"]),
            "group_name": features["group"].int2str(int(row["group"])),
            "style": style,
            "tone": row["tone"].decode(),
        }


def _selected(row: dict[str, Any], subset: Subset) -> bool:
    filters = {
        "label": subset.labels,
        "group_name": subset.groups,
        "style": subset.styles,
        "tone": subset.tones,
    }
    return all(wanted is None or row[field] in wanted for field, wanted in filters.items())


def _check_names(subset: Subset, rows: list[dict[str, Any]]) -> None:
    """Raises ValueError for the first name in the subset that no picture has."""
    fields = {"labels": "label", "groups": "group_name", "styles": "style", "tones": "tone"}
    for filter_name, field in fields.items():
        known = sorted({row[field] for row in rows})
        for name in getattr(subset, filter_name) or ():
            if name not in known:
                near = difflib.get_close_matches(name, known, n=3)
                hint = f"; did you mean {' or '.join(map(repr, near))}?" if near else ""
                raise ValueError(f"No picture has {name!r} among its {filter_name}{hint}")


def _examples(
    rows: list[dict[str, Any]], *, group_names: tuple[str, ...], variants: int, seed: int
) -> Examples:
    return Examples(
        images=np.stack([np.asarray(Image.open(io.BytesIO(row["image"]))) for row in rows]),
        captions=tuple(
            caption_variants(
                label=row["label"],
                tags=row["tags"],
                tone=row["tone"],
                style=row["style"],
                count=variants,
                seed=seed,
            )
            for row in rows
        ),
        groups=np.array([row["group"] for row in rows], np.int32),
        group_names=group_names,
        keys=tuple(row["key"] for row in rows),
        labels=tuple(row["label"] for row in rows),
        styles=tuple(row["style"] for row in rows),
        tones=tuple(row["tone"] for row in rows),
    )
