import numpy as np
import pytest
import tensorflow as tf
import tf_keras as keras

from tfsnap.layers.norms import GroupNorm, LayerNorm, standardised
from tfsnap.training.precision import computing_in


def standardise(x, *, axes, epsilon):
    """What the two factors are together."""

    def over(reduce, values):
        return reduce(values, axis=axes, keepdims=True)

    scaled, factor = standardised(x, over=over, epsilon=epsilon)
    return scaled * factor


def randomised(layer, shape):
    layer.build(tf.TensorShape(shape))
    rng = np.random.default_rng(1)
    for weight in layer.weights:
        weight.assign(rng.standard_normal(weight.shape))
    return layer


@pytest.mark.parametrize("groups", [1, 2, 8])
def test_group_norm_equals_keras(groups):
    shape = [2, 3, 5, 8]
    ours = randomised(GroupNorm(groups, epsilon=1e-3), shape)
    theirs = randomised(keras.layers.GroupNormalization(groups, epsilon=1e-3), shape)
    x = tf.constant(np.random.default_rng(0).normal(3.0, 2.0, shape), tf.float32)
    np.testing.assert_allclose(ours(x), theirs(x), atol=2e-5)


def test_layer_norm_equals_keras():
    shape = [2, 7, 12]
    ours = randomised(LayerNorm(epsilon=1e-5), shape)
    theirs = randomised(keras.layers.LayerNormalization(epsilon=1e-5), shape)
    x = tf.constant(np.random.default_rng(0).normal(-2.0, 5.0, shape), tf.float32)
    np.testing.assert_allclose(ours(x), theirs(x), atol=2e-5)


def test_group_norm_names_channels_that_do_not_split():
    with pytest.raises(ValueError, match="9 channels do not split in 2 groups"):
        GroupNorm(2)(tf.zeros([1, 2, 2, 9]))


@pytest.mark.parametrize("scale", [0.0, 1e-4, 1e-2, 1.0, 500.0])
def test_standardising_is_the_formula_at_every_scale(scale):
    x = scale * np.random.default_rng(0).normal(0.3, 1.0, [2, 24, 4, 6])
    centred = x - x.mean((1, 3), keepdims=True)
    expected = centred / np.sqrt(np.mean(centred**2, (1, 3), keepdims=True) + 1e-5)
    found = standardise(tf.constant(x, tf.float32), axes=[1, 3], epsilon=1e-5)
    np.testing.assert_allclose(found, expected, atol=2e-5)


@pytest.mark.parametrize("scale", [1e-4, 1e-2, 1.0, 500.0])
def test_standardising_holds_in_half_precision(scale):
    """Operation by operation, every intermediate value rounded to float16."""
    x = (scale * np.random.default_rng(0).normal(0.3, 1.0, [1, 64, 4, 6])).astype(np.float16)
    exact = standardise(tf.constant(x, tf.float64), axes=[1, 3], epsilon=1e-5)
    half = standardise(tf.constant(x), axes=[1, 3], epsilon=1e-5)
    np.testing.assert_allclose(half, exact, atol=2e-2)


@pytest.mark.parametrize(
    ("make", "shape"),
    [(lambda: GroupNorm(2), [1, 128, 128, 8]), (LayerNorm, [4, 1280])],
    ids=["group", "layer"],
)
def test_means_of_large_maps_are_not_added_up_in_float16(make, shape):
    x = np.random.default_rng(0).normal(70.0, 1.0, shape).astype(np.float16)
    exact = make()(tf.constant(x, tf.float32))
    with computing_in("float16"):
        half = make()(tf.constant(x))
    assert half.dtype == tf.float16
    np.testing.assert_allclose(half, exact, atol=5e-3)


def test_the_divisor_that_keeps_squares_small_has_no_gradient():
    rng = np.random.default_rng(0)
    x = tf.constant(rng.normal(0.3, 1.0, [2, 5, 8]), tf.float64)
    direction = tf.constant(rng.normal(size=[2, 5, 8]))

    def plain(value):
        centred = value - tf.reduce_mean(value, -1, keepdims=True)
        return centred * tf.math.rsqrt(tf.reduce_mean(centred**2, -1, keepdims=True) + 1e-3)

    def gradient(function):
        with tf.GradientTape() as tape:
            tape.watch(x)
            loss = tf.reduce_sum(function(x) * direction)
        return tape.gradient(loss, x)

    ours = gradient(lambda value: standardise(value, axes=[-1], epsilon=1e-3))
    np.testing.assert_allclose(ours, gradient(plain), atol=1e-12)
