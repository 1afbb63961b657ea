"""A CLIP that takes no time, and what belongs to it."""

import numpy as np

from tfsnap.config import ClipConfig, ClipImageConfig, ClipTextConfig
from tfsnap.models.clip import build_clip

CONFIG = ClipConfig(
    text=ClipTextConfig(vocab_size=50, context_length=4, width=8, layers=1, heads=2),
    image=ClipImageConfig(resolution=8, patch=4, width=8, layers=1, heads=2),
    embedding_width=6,
)


def make_clip(seed=0):
    clip = build_clip(CONFIG)
    rng = np.random.default_rng(seed)
    for variable in clip.variables:
        if variable.shape.rank:
            variable.assign_add(0.3 * rng.standard_normal(variable.shape))
    return clip


def tokenize(captions):
    """A caption is a number below 48."""
    return np.array([[48, int(caption), 49, 0] for caption in captions], np.int32)


def pictures(count, side=8, seed=0):
    """Smooth ones, which are not all alike to a network."""
    rng = np.random.default_rng(seed)
    small = rng.integers(0, 256, [count, 2, 2, 3], dtype=np.uint8)
    return small.repeat(side // 2, axis=1).repeat(side // 2, axis=2)
