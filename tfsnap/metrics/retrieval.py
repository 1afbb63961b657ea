"""Does a picture show what its caption says, by CLIP's judgement?"""

import dataclasses
from collections.abc import Callable, Sequence

import numpy as np
import tensorflow as tf

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


def embed_images(clip: Clip, images: np.ndarray) -> np.ndarray:
    """Unit vectors, float32 [N, E], of float pictures [N, R, R, 3] in [-1, 1]."""
    return _in_batches(clip.embed_image, images)


def embed_captions(clip: Clip, tokens: np.ndarray) -> np.ndarray:
    """Unit vectors, float32 [N, E], of int32 tokens [N, T]."""
    return _in_batches(clip.embed_text, tokens)


def retrieval(*, images: np.ndarray, candidates: np.ndarray, targets: Sequence[int]) -> Retrieval:
    """Ranks candidate captions for every picture.

    Args:
      images: unit vectors [N, E].
      candidates: unit vectors of distinct captions [M, E].
      targets: for each picture the row of its own caption in `candidates`.

    Returns:
      Accuracy, chance and score. A tie with another caption counts as a miss.
    """
    cosines = images @ candidates.T  # [N, M]
    rows = np.arange(len(images))
    own = cosines[rows, list(targets)]
    cosines[rows, list(targets)] = -np.inf
    return Retrieval(
        top1=float(np.mean(own > cosines.max(axis=1))),
        chance=1.0 / len(candidates),
        clip_score=float(np.mean(own)),
        count=len(images),
    )


def _in_batches(function: Callable[[tf.Tensor], tf.Tensor], rows: np.ndarray) -> np.ndarray:
    parts = [rows[i : i + _BATCH] for i in range(0, len(rows), _BATCH)]
    return np.concatenate([function(tf.constant(part)).numpy() for part in parts])
