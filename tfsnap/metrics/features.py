"""What a network makes of pictures, for distances between sets of them."""

import hashlib
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import tensorflow as tf
import tf_keras as keras

from tfsnap.metrics.batches import in_batches
from tfsnap.metrics.framing import squares
from tfsnap.metrics.retrieval import embed_images
from tfsnap.models.clip import Clip
from tfsnap.models.inception import WIDTH, Inception

CLIP, INCEPTION = "clip", "inception"
_BATCH = 32
_LOADED = 256  # Pictures of a set that are in memory at a time.
_DIGITS = 12  # Of a fingerprint: enough to tell networks apart, and to read.


class FeatureSpace(NamedTuple):
    """A network that distances are measured with.

    Attributes:
      name: "clip:..." or "inception:...", ending in the fingerprint of the weights. Features of
        equal names are comparable.
      width: of a feature.
      embed: features, float32 [N, width], of uint8 pictures [N, H, W, 3].
    """

    name: str
    width: int
    embed: Callable[[np.ndarray], np.ndarray]


def clip_space(clip: Clip) -> FeatureSpace:
    """CLIP's unit vectors, those of the CLIP score and of the CMMD.

    Pictures of another size are resized and cropped as in training: see `framing.to_square`.
    """

    def embed(images: np.ndarray) -> np.ndarray:
        fitting = squares(images, clip.config.image.resolution)
        return embed_images(clip, fitting.astype(np.float32) / 127.5 - 1.0)

    return FeatureSpace(f"{CLIP}:{fingerprint(clip)}", clip.config.embedding_width, embed)


def inception_space(inception: Inception) -> FeatureSpace:
    """Inception's pooled features, those of the FID and the KID."""
    network = tf.function(inception, autograph=False, reduce_retracing=True)

    def embed(images: np.ndarray) -> np.ndarray:
        return in_batches(lambda part: network(tf.constant(part, tf.float32)), images, size=_BATCH)

    return FeatureSpace(f"{INCEPTION}:{fingerprint(inception)}", WIDTH, embed)


def embed_all(space: FeatureSpace, images: np.ndarray, *, side: int) -> np.ndarray:
    """Features, float32 [N, width], of many uint8 pictures, of which few are in memory at a time.

    Args:
      space: the network.
      images: uint8 [N, H, W, 3], or what is sliced like it.
      side: that pictures are resized and cropped to before, see `framing.to_square`.
    """
    return in_batches(lambda part: space.embed(squares(part, side)), images, size=_LOADED)


def is_clip(name: str) -> bool:
    """Whether features of a space of this name are CLIP's."""
    return name.startswith(f"{CLIP}:")


def fingerprint(*models: keras.Model) -> str:
    """Tells networks apart by their weights."""
    digest = hashlib.sha256()
    for model in models:
        # What stands before the layer's name depends on what else was built.
        named = {"/".join(v.name.split("/")[-2:]): v for v in model.variables}
        for name, variable in sorted(named.items()):
            digest.update(name.encode())
            digest.update(np.ascontiguousarray(variable.numpy()).tobytes())
    return digest.hexdigest()[:_DIGITS]
