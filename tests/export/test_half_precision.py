"""Layers and networks in the half precision of phones, on lavapipe.

An error of one rounding is 5e-4 of a value. lavapipe compiles every shader on its first run, and
keeps what it compiled.
"""

import numpy as np
import pytest
import tensorflow as tf
import tf_keras as keras

from tests.export.models import convert, normal
from tfsnap.export.delegate import check_on_gpu
from tfsnap.layers.attention import Attention, SpatialTransformer
from tfsnap.layers.norms import GroupNorm, LayerNorm
from tfsnap.layers.resnet import ResNetBlock

LARGE = 500.0


def in_half(path, function, **inputs):
    return check_on_gpu(convert(path / "model.tflite", function, **inputs), inputs, half=True)


def randomised(layer, *arguments, **context):
    """Calls a layer once, then moves its weights, zeros included."""
    keras.utils.set_random_seed(0)
    layer(*arguments, **context)
    for seed, weight in enumerate(layer.weights):
        weight.assign_add(0.1 * normal(*weight.shape, seed=seed))
    return layer


def test_half_precision_is_real(tmp_path):
    """Squares beyond 65,504 must overflow, or the tests below show nothing."""
    x = LARGE * normal(1, 8, 8, 8)
    report = in_half(tmp_path, lambda x: tf.square(x) * 1e-6, x=x)
    assert report.whole and not report.passed
    assert np.isinf(report.max_error)
    assert check_on_gpu(tmp_path / "model.tflite", {"x": x}).passed


@pytest.mark.parametrize("scale", [1e-3, 1.0, LARGE])
@pytest.mark.parametrize(
    ("layer", "shape"), [(GroupNorm(8), (1, 8, 8, 32)), (LayerNorm(), (1, 64, 32))]
)
def test_norms_are_right_at_every_scale(tmp_path, layer, shape, scale):
    x = scale * (normal(*shape) + 0.5)
    randomised(layer, x)
    report = in_half(tmp_path, layer, x=x)
    assert report.whole and report.max_error < 2e-3, report


def test_softmax_is_right_up_to_the_largest_scores(tmp_path):
    # Multiples of 32 are exact in half precision, so that the input's rounding plays no part.
    scores = 32.0 * np.random.default_rng(0).integers(-2000, 2000, [1, 4, 16, 16])
    report = in_half(tmp_path, tf.nn.softmax, x=scores.astype(np.float32))
    assert report.whole and report.max_error < 1e-3, report


def test_attention_is_right_where_its_scores_are_large(tmp_path):
    """Half the queries and keys are alike, so that weights are shared and not one-hot."""
    layer = Attention(32, 4, name="attention")
    x = LARGE * normal(1, 16, 32) / 32**0.5
    randomised(layer, x)
    twice = np.repeat(x[:, ::2], 2, axis=1)
    report = in_half(tmp_path, layer, x=twice)
    assert report.whole and report.max_error < 1e-2, report


class ResNetBranch(ResNetBlock):
    """What the block adds: the map that passes by would hide all of it."""

    def bypass(self, x):
        return 0.0 * x[..., :1]


class TransformerBranch(SpatialTransformer):
    """What the block adds."""

    def bypass(self, x):
        return 0.0 * x


@pytest.mark.parametrize("scale", [1.0, LARGE])
def test_blocks_of_the_unet_are_right_on_large_maps(tmp_path, scale):
    resnet = ResNetBranch(32, groups=8, name="resnet")
    transformer = TransformerBranch(32, heads=4, groups=8, name="transformer")
    x, context = scale * normal(1, 8, 8, 32), normal(1, 6, 16, seed=1)
    randomised(resnet, x)
    randomised(transformer, x, context=context)

    def both(x, context):
        return tf.concat([resnet(x), transformer(x, context=context)], -1)

    report = in_half(tmp_path, both, x=x, context=context)
    assert report.whole and report.max_error < 5e-3, report
