"""Inception-v3 as it is used to compare sets of pictures: the network of the FID."""

from collections.abc import Sequence
from typing import NamedTuple

import tensorflow as tf
import tf_keras as keras

SIDE = 299  # Of the pictures that the network sees, in pixels.
WIDTH = 2048  # Of its features.
_EPSILON = 1e-3  # Of every batch norm.


class _Conv(NamedTuple):
    """A convolution by the name that PyTorch's ports give it.

    Without stride, edges are padded; `valid` ones without stride are those of the stem.
    """

    name: str
    filters: int
    kernel: tuple[int, int] = (1, 1)
    stride: int = 1
    valid: bool = False


_Branch = Sequence["_Conv | tuple[_Conv, ...]"]  # A tuple of convolutions reads one input.

_STEM = (
    _Conv("Conv2d_1a_3x3", 32, (3, 3), stride=2),
    _Conv("Conv2d_2a_3x3", 32, (3, 3), valid=True),
    _Conv("Conv2d_2b_3x3", 64, (3, 3)),
    "max",
    _Conv("Conv2d_3b_1x1", 80, valid=True),
    _Conv("Conv2d_4a_3x3", 192, (3, 3), valid=True),
    "max",
)


def _a(pooled: int) -> list[_Branch]:
    return [
        [_Conv("branch1x1", 64)],
        [_Conv("branch5x5_1", 48), _Conv("branch5x5_2", 64, (5, 5))],
        [
            _Conv("branch3x3dbl_1", 64),
            _Conv("branch3x3dbl_2", 96, (3, 3)),
            _Conv("branch3x3dbl_3", 96, (3, 3)),
        ],
        ["average", _Conv("branch_pool", pooled)],
    ]


_B = [
    [_Conv("branch3x3", 384, (3, 3), stride=2)],
    [
        _Conv("branch3x3dbl_1", 64),
        _Conv("branch3x3dbl_2", 96, (3, 3)),
        _Conv("branch3x3dbl_3", 96, (3, 3), stride=2),
    ],
    ["max"],
]


def _c(width: int) -> list[_Branch]:
    return [
        [_Conv("branch1x1", 192)],
        [
            _Conv("branch7x7_1", width),
            _Conv("branch7x7_2", width, (1, 7)),
            _Conv("branch7x7_3", 192, (7, 1)),
        ],
        [
            _Conv("branch7x7dbl_1", width),
            _Conv("branch7x7dbl_2", width, (7, 1)),
            _Conv("branch7x7dbl_3", width, (1, 7)),
            _Conv("branch7x7dbl_4", width, (7, 1)),
            _Conv("branch7x7dbl_5", 192, (1, 7)),
        ],
        ["average", _Conv("branch_pool", 192)],
    ]


_D = [
    [_Conv("branch3x3_1", 192), _Conv("branch3x3_2", 320, (3, 3), stride=2)],
    [
        _Conv("branch7x7x3_1", 192),
        _Conv("branch7x7x3_2", 192, (1, 7)),
        _Conv("branch7x7x3_3", 192, (7, 1)),
        _Conv("branch7x7x3_4", 192, (3, 3), stride=2),
    ],
    ["max"],
]


def _e(pooling: str) -> list[_Branch]:
    return [
        [_Conv("branch1x1", 320)],
        [
            _Conv("branch3x3_1", 384),
            (_Conv("branch3x3_2a", 384, (1, 3)), _Conv("branch3x3_2b", 384, (3, 1))),
        ],
        [
            _Conv("branch3x3dbl_1", 448),
            _Conv("branch3x3dbl_2", 384, (3, 3)),
            (_Conv("branch3x3dbl_3a", 384, (1, 3)), _Conv("branch3x3dbl_3b", 384, (3, 1))),
        ],
        [pooling, _Conv("branch_pool", 192)],
    ]


_MIXED = {
    "Mixed_5b": _a(32),
    "Mixed_5c": _a(64),
    "Mixed_5d": _a(64),
    "Mixed_6a": _B,
    "Mixed_6b": _c(128),
    "Mixed_6c": _c(160),
    "Mixed_6d": _c(160),
    "Mixed_6e": _c(192),
    "Mixed_7a": _D,
    "Mixed_7b": _e("average"),
    # The network that the FID was defined with takes the maximum here, by mistake.
    "Mixed_7c": _e("max_same"),
}
_POOLING = {
    "max": lambda x: tf.nn.max_pool2d(x, 3, 2, "VALID"),
    "max_same": lambda x: tf.nn.max_pool2d(x, 3, 1, "SAME"),
    "average": lambda x: tf.nn.avg_pool2d(x, 3, 1, "SAME"),  # Of what is inside of the picture.
}


class _ConvNorm(keras.layers.Layer):
    """Convolution without bias, batch norm with fixed statistics, ReLU."""

    def __init__(self, conv: _Conv, name: str):
        super().__init__(name=name)
        padding = "valid" if conv.valid or conv.stride > 1 else "same"
        self.conv = keras.layers.Conv2D(
            conv.filters, conv.kernel, conv.stride, padding, use_bias=False, name=f"{name}.conv"
        )
        self.norm = keras.layers.BatchNormalization(epsilon=_EPSILON, name=f"{name}.bn")

    def call(self, x: tf.Tensor) -> tf.Tensor:
        return tf.nn.relu(self.norm(self.conv(x), training=False))


class Inception(keras.Model):
    """Pictures to the 2,048 pooled features that the FID and the KID compare.

    The picture is brought to 299 x 299 pixels as TensorFlow 1 did it, without half-pixel centers.

    Call args: image, float [B, H, W, 3] in 0 .. 255. Returns float [B, 2048].

    Reference: Szegedy et al. 2016 (arXiv 1512.00567), in the form of Heusel et al. 2017
      (arXiv 1706.08500), section A1; names are those of pytorch-fid and torch-fidelity.
    """

    def __init__(self, **kwargs: object):
        super().__init__(name="inception", **kwargs)
        found = [("", [_STEM]), *((f"{name}.", branches) for name, branches in _MIXED.items())]
        self.convs = {
            prefix + conv.name: _ConvNorm(conv, prefix + conv.name)
            for prefix, branches in found
            for branch in branches
            for conv in _flat(branch)
        }

    def call(self, image: tf.Tensor) -> tf.Tensor:
        """Computes the features."""
        x = tf.raw_ops.ResizeBilinear(images=tf.cast(image, tf.float32), size=[SIDE, SIDE])
        x = self._branch("", _STEM, (x - 128.0) / 128.0)
        for name, branches in _MIXED.items():
            x = tf.concat([self._branch(f"{name}.", branch, x) for branch in branches], axis=-1)
        return tf.reduce_mean(x, axis=[1, 2])

    def _branch(self, prefix: str, branch: _Branch, x: tf.Tensor) -> tf.Tensor:
        for item in branch:
            if isinstance(item, str):
                x = _POOLING[item](x)
            elif isinstance(item, _Conv):
                x = self.convs[prefix + item.name](x)
            else:
                x = tf.concat([self.convs[prefix + conv.name](x) for conv in item], axis=-1)
        return x


def _flat(branch: _Branch) -> list[_Conv]:
    """The convolutions of a branch."""
    found = []
    for item in branch:
        if isinstance(item, _Conv):
            found.append(item)
        elif not isinstance(item, str):
            found += item
    return found


def build_inception() -> Inception:
    """Builds the network with all its weights created, randomly initialised."""
    inception = Inception()
    inception(tf.zeros([1, SIDE, SIDE, 3]))
    return inception
