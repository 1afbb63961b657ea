"""Captions of emoji: one canonical wording, and others for training.

The canonical caption is "label[, tone], style style": "thumbs up, dark skin tone, noto style" or
"purple heart, fluent 3d style". The others vary what the thing is called (its label, one of its
tags, both), the order of the parts and the words between them.
"""

import hashlib
import random
from collections.abc import Sequence

STYLES = ("noto", "twemoji", "fluent flat", "fluent 3d")
TONES = ("light", "medium-light", "medium", "medium-dark", "dark")

_PLAIN = (
    "{subject}, {style}",
    "{style}, {subject}",
    "{style} {subject}",
    "{subject} in {style}",
    "{subject} drawn in {style}",
)
_TONED = (
    "{subject}, {tone}, {style}",
    "{style}, {subject}, {tone}",
    "{style} {subject}, {tone}",
    "{subject}, {style}, {tone}",
    "{subject} with {tone} in {style}",
    "{tone} {subject}, {style}",
    "{tone}, {subject}, {style}",
)
# Chances of naming the thing by its label, by its label and a tag, and by a tag alone.
_SUBJECTS = ("label", "both", "tag")
_SUBJECT_WEIGHTS = (5, 3, 2)


def canonical_caption(*, label: str, tone: str, style: str) -> str:
    """Returns "label[, tone], style style".

    Args:
      label: what is shown, "thumbs up".
      tone: "" or a name of `TONES`; two people's tones are joined by a plus sign, "light+dark".
      style: one of `STYLES`.

    Example:
      >>> canonical_caption(label="thumbs up", tone="dark", style="noto")
      'thumbs up, dark skin tone, noto style'
    """
    return _fill((_TONED if tone else _PLAIN)[0], subject=label, tone=tone, style=style)


def caption_variants(
    *,
    label: str,
    tags: Sequence[str],
    tone: str,
    style: str,
    count: int,
    seed: int,
) -> tuple[str, ...]:
    """Returns `count` captions of one picture, the canonical one first.

    Args:
      label: what is shown.
      tags: other names and associations; may be empty.
      tone: as in `canonical_caption`.
      style: one of `STYLES`.
      count: number of captions, at least 1. Some may be equal.
      seed: another seed gives other variants. They depend on nothing but the arguments.

    Raises:
      ValueError: `count` is below 1.
    """
    if count < 1:
        raise ValueError(f"count of caption variants is {count}; it must be at least 1")
    key = f"{seed}/{label}/{tone}/{style}"
    draw = random.Random(hashlib.sha256(key.encode()).digest())
    others = [
        _fill(
            draw.choice(_TONED if tone else _PLAIN),
            subject=_subject(draw, label, tags),
            tone=tone,
            style=style,
        )
        for _ in range(count - 1)
    ]
    return (canonical_caption(label=label, tone=tone, style=style), *others)


def tone_phrase(tone: str) -> str:
    """Returns the words for a tone: "dark skin tone", "light and dark skin tones"."""
    first, _, second = tone.partition("+")
    return f"{first} and {second} skin tones" if second else f"{first} skin tone"


def _fill(template: str, *, subject: str, tone: str, style: str) -> str:
    return template.format(subject=subject, tone=tone_phrase(tone), style=f"{style} style")


def _subject(draw: random.Random, label: str, tags: Sequence[str]) -> str:
    (kind,) = draw.choices(_SUBJECTS, _SUBJECT_WEIGHTS)
    if kind == "label" or not tags:
        return label
    tag = draw.choice(tags)
    if kind == "tag":
        return tag
    return draw.choice((f"{label}, {tag}", f"{tag}, {label}"))
