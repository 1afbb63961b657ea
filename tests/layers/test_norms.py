import numpy as np
import pytest
import tensorflow as tf
import tf_keras as keras

from tfsnap.layers.norms import GroupNorm, LayerNorm


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
