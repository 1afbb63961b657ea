"""What pictures are generated of; for COCO-30K, with everything stated that papers leave open."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

COCO_SIDE = 256  # Of the pictures that are compared, in pixels.
COCO_COUNT = 30_000


class Prompt(NamedTuple):
    """One picture to generate.

    Attributes:
      caption: the caption.
      seed: of the noise that sampling starts from.
    """

    caption: str
    seed: int


def coco_30k(
    captions: Sequence[Sequence[str]], *, count: int = COCO_COUNT, seed: int = 0
) -> list[Prompt]:
    """Chooses the captions that zero-shot FID on COCO is measured with.

    1. `count` pictures of the validation split of 2014 (40,504) are drawn without repetition, by a
       permutation of numpy's default generator with `seed`; of each, one of its captions is drawn
       by the same generator.
    2. The i-th of them is generated once, from noise of seed `seed + i`, at the model's own size.
    3. Pictures, generated and real, get the shorter side resized to 256 pixels, bicubic with
       antialiasing, and the middle cropped: `framing.to_square(image, 256)`, on 8 bits.
    4. The FID is that of Inception's pooled features (`models.inception`), which resizes to 299 as
       TensorFlow 1 did, between the generated pictures and all real ones of the split.
    5. The CLIP score is the mean cosine with the captions, of the same pictures of 256 pixels.

    Args:
      captions: those of each picture, at least one.
      count: pictures to generate.
      seed: of the choice, and of the first picture's noise.

    Raises:
      ValueError: there are fewer pictures than `count`.
    """
    if count > len(captions):
        raise ValueError(f"{len(captions)} pictures have captions; {count} are asked for")
    rng = np.random.default_rng(seed)
    rows = rng.permutation(len(captions))[:count]
    distinct = (tuple(dict.fromkeys(captions[row])) for row in rows)  # Sets repeat captions.
    return [Prompt(own[rng.integers(len(own))], seed + i) for i, own in enumerate(distinct)]
