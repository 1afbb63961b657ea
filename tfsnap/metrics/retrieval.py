"""Does a picture show what its caption says, by CLIP's judgement?"""

import dataclasses
from collections.abc import Callable, Sequence

import numpy as np
import tensorflow as tf

from tfsnap.metrics.batches import in_batches
from tfsnap.models.clip import Clip

_BATCH = 64


@dataclasses.dataclass(frozen=True)
class Retrieval:
    """How well captions are found from pictures.

    Attributes:
      top1: share of pictures whose own caption scores highest among all candidates.
      chance: what guessing would reach.
      clip_score: mean cosine of a picture and its caption.
      count: number of pictures.
    """

    top1: float
    chance: float
    clip_score: float
    count: int

    def __str__(self) -> str:
        return (
            f"top-1 {self.top1:.1%} of {self.count} pictures (chance {self.chance:.2%}), "
            f"CLIP score {self.clip_score:.3f}"
        )


def find_captions(
    clip: Clip,
    tokenize: Callable[[list[str]], np.ndarray],
    *,
    images: np.ndarray,
    captions: Sequence[str],
    candidates: Sequence[str],
) -> Retrieval:
    """Looks for the captions of pictures with CLIP.

    Args:
      clip: the network.
      tokenize: turns texts into int32 tokens [M, T].
      images: float pictures [N, R, R, 3] in [-1, 1].
      captions: N captions, one of each picture.
      candidates: what to look among; it has every one of `captions`, and repetitions count once.

    Raises:
      ValueError: the pictures are not of CLIP's resolution.
    """
    rows = {caption: row for row, caption in enumerate(dict.fromkeys(candidates))}
    return retrieval(
        images=embed_images(clip, images),
        candidates=embed_captions(clip, tokenize(list(rows))),
        targets=[rows[caption] for caption in captions],
    )


def embed_images(clip: Clip, images: np.ndarray) -> np.ndarray:
    """Unit vectors, float32 [N, E], of float pictures [N, R, R, 3] in [-1, 1].

    Raises:
      ValueError: the pictures are not of CLIP's resolution.
    """
    side = clip.config.image.resolution
    if images.shape[1:3] != (side, side):
        height, width = images.shape[1:3]
        raise ValueError(
            f"pictures of {height} x {width} pixels do not fit this CLIP, which takes "
            f"{side} x {side}"
        )
    return in_batches(lambda part: clip.embed_image(tf.constant(part)), images, size=_BATCH)


def embed_captions(clip: Clip, tokens: np.ndarray) -> np.ndarray:
    """Unit vectors, float32 [N, E], of int32 tokens [N, T]."""
    return in_batches(lambda part: clip.embed_text(tf.constant(part)), tokens, size=_BATCH)


def retrieval(*, images: np.ndarray, candidates: np.ndarray, targets: Sequence[int]) -> Retrieval:
    """Ranks candidate captions for every picture.

    Args:
      images: unit vectors [N, E].
      candidates: unit vectors of distinct captions [M, E].
      targets: for each picture the row of its own caption in `candidates`.

    Returns:
      Accuracy, chance and score. A tie with another caption counts as a miss.
    """
    own, found = agreement(images=images, candidates=candidates, targets=targets)
    return Retrieval(
        top1=float(np.mean(found)),
        chance=1.0 / len(candidates),
        clip_score=float(np.mean(own)),
        count=len(images),
    )


def agreement(
    *, images: np.ndarray, candidates: np.ndarray, targets: Sequence[int]
) -> tuple[np.ndarray, np.ndarray]:
    """What `retrieval` takes the means of; the arguments are its own.

    Returns:
      The cosine of each picture and its caption, float32 [N], and whether no other caption's is as
      high, bool [N].
    """
    cosines = images @ candidates.T  # [N, M]
    rows = np.arange(len(images))
    own = cosines[rows, list(targets)]
    cosines[rows, list(targets)] = -np.inf
    return own, own > cosines.max(axis=1)
