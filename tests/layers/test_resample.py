import numpy as np
import pytest
import tensorflow as tf

from tfsnap.layers.resample import Downsample, upsample_nearest


def test_upsampling_repeats_pixels():
    x = np.random.default_rng(0).standard_normal([2, 3, 4, 5]).astype(np.float32)
    expected = x.repeat(2, axis=1).repeat(2, axis=2)
    np.testing.assert_array_equal(upsample_nearest(tf.constant(x)), expected)


@pytest.mark.parametrize("jit", [False, True])
def test_gradient_of_upsampling_is_that_of_repeating(jit):
    rng = np.random.default_rng(0)
    x = tf.constant(rng.standard_normal([2, 3, 4, 5]), tf.float32)
    weights = tf.constant(rng.standard_normal([2, 6, 8, 5]), tf.float32)

    @tf.function(jit_compile=jit)
    def gradients(x):
        with tf.GradientTape(persistent=True) as tape:
            tape.watch(x)
            ours = tf.reduce_sum(weights * tf.sin(upsample_nearest(x)))
            theirs = tf.reduce_sum(weights * tf.sin(tf.repeat(tf.repeat(x, 2, axis=1), 2, axis=2)))
        return tape.gradient(ours, x), tape.gradient(theirs, x)

    ours, theirs = gradients(x)
    np.testing.assert_allclose(ours, theirs, atol=1e-5)


@pytest.mark.parametrize(("symmetric", "first"), [(True, 4), (False, 9)])
def test_padding_of_downsampling(symmetric, first):
    """A sum over the 3x3 window at the first place counts how much of it is padding."""
    layer = Downsample(1, symmetric=symmetric)
    layer(tf.zeros([1, 4, 4, 1]))
    layer.conv.kernel.assign(tf.ones([3, 3, 1, 1]))
    y = layer(tf.ones([1, 4, 4, 1]))
    assert y.shape == (1, 2, 2, 1)
    assert y[0, 0, 0, 0] == first
