"""The data of a job."""

import dataclasses
import functools

import numpy as np

from tfsnap.config import ClipTextConfig, Config
from tfsnap.data.augment import AugmentConfig
from tfsnap.data.clip_tokens import clip_tokenizer
from tfsnap.data.examples import (
    DATASETS,
    Examples,
    Subset,
    load_examples,
    tokenize_captions,
)
from tfsnap.data.prepared.framing import Shape
from tfsnap.data.prepared.load import PreparedSet, is_prepared
from tfsnap.data.shuffle import sampling_index
from tfsnap.tokenizer import Tokenizer

_QUOTED = 60  # Characters of a long caption.


@dataclasses.dataclass(frozen=True)
class DataConfig(Config):
    """Which pictures to train on, and how to draw from them.

    Attributes:
      dataset: "emoji", or the folder of a set that tools/prepare_data.py --output=... made.
      resolution: side of the square pictures, in pixels.
      subset: which of its pictures; all by default.
      caption_variants: captions per picture, the canonical one first; where a picture has fewer,
        they are repeated.
      resample: 0 draws groups at their natural share, 1 equally.
      augment: random shifts and zooms.
    """

    dataset: str = "emoji"
    resolution: int = 64
    subset: Subset = Subset()
    caption_variants: int = 8
    resample: float = 0.5
    augment: AugmentConfig = AugmentConfig()

    def load(self, split: str) -> Examples:
        """Reads the pictures of a split into memory."""
        return load_examples(
            dataset=self.dataset,
            split=split,
            resolution=self.resolution,
            subset=self.subset,
            caption_variants=self.caption_variants,
        )

    def load_shapes(self, split: str) -> dict[Shape, Examples]:
        """As `load`, by shape: those of a set that was prepared with --buckets, else the square."""
        if self.dataset in DATASETS or not is_prepared(self.dataset):
            return {(self.resolution, self.resolution): self.load(split)}
        return PreparedSet(self.dataset, resolution=self.resolution).buckets(
            split, caption_variants=self.caption_variants, subset=self.subset
        )

    def index(self, examples: Examples, seed: int) -> np.ndarray:
        """The rows of an epoch, small groups repeated."""
        return sampling_index(examples.groups, resample=self.resample, seed=seed)


@dataclasses.dataclass(frozen=True)
class Captioned:
    """Pictures with their captions as tokens.

    Attributes:
      examples: the pictures.
      tokens: int32 [N, V, T], V captions of each.
      null_tokens: int32 [T], the empty caption.
      tokenizer: what made the tokens.
    """

    examples: Examples
    tokens: np.ndarray
    null_tokens: np.ndarray
    tokenizer: Tokenizer


@functools.lru_cache(maxsize=2)
def captioned(data: DataConfig, split: str, text: ClipTextConfig, pad_token: int = 0) -> Captioned:
    """Loads a split of square pictures and its captions' tokens, as `text` reads them."""
    return _with_tokens(data.load(split), clip_tokenizer(text, pad_token))


def captioned_shapes(
    data: DataConfig, split: str, text: ClipTextConfig, pad_token: int = 0
) -> dict[Shape, Captioned]:
    """As `captioned`, by the shape of the pictures."""
    shapes, tokenizer = data.load_shapes(split), clip_tokenizer(text, pad_token)
    return {shape: _with_tokens(examples, tokenizer) for shape, examples in shapes.items()}


def empty_prompt(text: ClipTextConfig, pad_token: int = 0) -> np.ndarray:
    """The tokens of the empty caption, int32 [T]."""
    return clip_tokenizer(text, pad_token)([""])[0]


def _with_tokens(examples: Examples, tokenizer: Tokenizer) -> Captioned:
    tokens = tokenize_captions(examples, tokenizer)
    _tell_cut(examples, tokens, tokenizer)
    return Captioned(examples, tokens, tokenizer([""])[0], tokenizer)


def _tell_cut(examples: Examples, tokens: np.ndarray, tokenizer: Tokenizer) -> None:
    """Says how many captions are longer than a row, tokens [N, V, T]: what is cut is not learnt."""
    length = tokenizer.context_length
    ends = np.argmax(tokens == tokenizer.end_token, axis=-1)  # [N, V]
    full = [examples.captions[row][variant] for row, variant in np.argwhere(ends == length - 1)]
    lost = {text: end for text in dict.fromkeys(full) if (end := tokenizer.truncated(text))}
    if lost:
        text, end = next(iter(lost.items()))
        print(
            f"{sum(text in lost for text in full)} of {ends.size} captions are longer than the "
            f"{length} tokens that the text encoder reads and lose their ends, such as {end!r} of "
            f"{text[:_QUOTED]!r}",
            flush=True,
        )


def read_captions(tokens: np.ndarray, tokenizer: Tokenizer) -> list[str]:
    """Turns rows of tokens, int32 [B, T], back into words."""
    ends = np.argmax(tokens == tokenizer.end_token, axis=1)
    return [tokenizer.decode(row[1:end]) for row, end in zip(tokens, ends, strict=True)]
