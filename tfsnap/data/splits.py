"""Divides the emoji into train, validation and holdout, by stable hashes.

- `validation`: 5 % of the (concept, style) pairs, with all their tones. At most one style of a
  concept, so train shows the concept, and shows the style, but never the two together.
- `holdout`: 10 % of the (concept, tone, style) combinations of concepts that are drawn in several
  tones, none of them in validation. Of every such combination train has the concept and tone in
  another style, the concept and style in another tone, and the tone and style on another concept.
  A model that puts them together has composed; it cannot have remembered.
- `train`: the rest, and what is drawn exactly as a picture of train: some concepts share one.
"""

import collections
import hashlib
from collections.abc import Iterable, Sequence

from tfsnap.data.catalogue import Picture, concepts

SPLITS = ("train", "validation", "holdout")
VALIDATION_SHARE = 0.05
HOLDOUT_SHARE = 0.10

_SALT = "tfsnap emoji 1"


def assign_splits(pictures: Sequence[Picture]) -> dict[str, str]:
    """Assigns every picture to a split.

    Args:
      pictures: the whole catalogue; the assignment does not depend on its order.

    Returns:
      Maps keys of pictures to a name of `SPLITS`.
    """
    unseen_pairs = _validation_pairs(pictures)
    splits = {
        picture.key: "validation" if _pair(picture) in unseen_pairs else "train"
        for picture in pictures
    }
    for key in _holdout_keys(pictures, splits):
        splits[key] = "holdout"
    seen = {picture.drawing for picture in pictures if splits[picture.key] == "train"}
    return {p.key: "train" if p.drawing in seen else splits[p.key] for p in pictures}


def _validation_pairs(pictures: Iterable[Picture]) -> set[tuple[str, str]]:
    by_concept = {
        label: sorted({picture.style for picture in drawn})
        for label, drawn in concepts(pictures).items()
    }
    total = sum(len(styles) for styles in by_concept.values())
    several = [label for label, styles in by_concept.items() if len(styles) > 1]
    chosen = sorted(several, key=lambda label: _hash("validation", label))
    return {
        (label, min(by_concept[label], key=lambda style, label=label: _hash(label, style)))
        for label in chosen[: round(VALIDATION_SHARE * total)]
    }


def _holdout_keys(pictures: Sequence[Picture], splits: dict[str, str]) -> list[str]:
    tones = {label: {p.words.tone for p in drawn} for label, drawn in concepts(pictures).items()}
    combinations = [p for p in pictures if p.words.tone and len(tones[p.words.label] - {""}) > 1]
    left = collections.Counter(
        part for p in combinations if splits[p.key] == "train" for part in _parts(p)
    )
    wanted = round(HOLDOUT_SHARE * len(combinations))
    held_out: list[str] = []
    for picture in sorted(combinations, key=lambda p: _hash("holdout", p.packaged)):
        # Train must keep another combination with each of the parts, now and at the end.
        if splits[picture.key] != "train" or min(left[part] for part in _parts(picture)) < 2:
            continue
        if len(held_out) == wanted:
            break
        held_out.append(picture.key)
        left.subtract(_parts(picture))
    return held_out


def _pair(picture: Picture) -> tuple[str, str]:
    return (picture.words.label, picture.style)


def _parts(picture: Picture) -> list[tuple[str, str, str]]:
    """The three pairs that make up a combination, with a star for what is left open."""
    label, tone, style = picture.words.label, picture.words.tone, picture.style
    return [(label, tone, "*"), (label, "*", style), ("*", tone, style)]


def _hash(*parts: str) -> bytes:
    return hashlib.sha256("/".join((_SALT, *parts)).encode()).digest()
