import numpy as np
import pytest
import tensorflow as tf

from tfsnap.layers.biased import Conv2D, Dense, DepthwiseConv2D
from tfsnap.training.precision import computing_in

LAYERS = {
    "dense": lambda: Dense(8),
    "conv": lambda: Conv2D(8, 3, padding="same"),
    "depthwise": lambda: DepthwiseConv2D(3, padding="same"),
}


def bias_gradient(layer, x, dy, *, conditional):
    """That of sum(layer(x) * dy), in a graph, in or out of a branch."""

    @tf.function(autograph=False)
    def gradient(taken):
        with tf.GradientTape() as tape:
            y = tf.cond(taken, lambda: layer(x), lambda: x) if conditional else layer(x)
            loss = tf.reduce_sum(tf.cast(y, tf.float32) * dy)
        return tape.gradient(loss, layer.bias)

    return gradient(tf.constant(True))


@pytest.mark.parametrize("conditional", [False, True])
@pytest.mark.parametrize("precision", ["bfloat16", "float16"])
@pytest.mark.parametrize("kind", LAYERS)
def test_half_precision_adds_up_the_whole_gradient_of_a_bias(kind, precision, conditional):
    rng = np.random.default_rng(0)
    with computing_in(precision):
        layer = LAYERS[kind]()
    x = tf.cast(rng.normal(size=[16, 32, 32, 8]), precision)
    dy = tf.cast(rng.normal(0.5, 1.0, [16, 32, 32, 8]), tf.float32)
    layer(x)
    found = bias_gradient(layer, x, dy, conditional=conditional)
    np.testing.assert_allclose(found, np.sum(dy, (0, 1, 2)), rtol=1e-2)


@pytest.mark.parametrize("kind", LAYERS)
def test_values_and_weights_are_those_of_keras(kind):
    ours = LAYERS[kind]()
    theirs = type(ours).__mro__[2].from_config(ours.get_config())  # Keras' class.
    x = tf.constant(np.random.default_rng(0).normal(size=[2, 5, 4, 8]), tf.float32)
    ours(x), theirs(x)
    ours.bias.assign(np.random.default_rng(1).normal(size=ours.bias.shape))
    theirs.set_weights(ours.get_weights())
    np.testing.assert_array_equal(ours(x), theirs(x))
    assert [v.name.split("/")[-1] for v in ours.variables] == [
        v.name.split("/")[-1] for v in theirs.variables
    ]


def test_the_activation_comes_after_the_bias():
    layer = Dense(3, activation="relu")
    layer(tf.zeros([1, 2]))
    layer.bias.assign([-1.0, 0.0, 2.0])
    np.testing.assert_array_equal(layer(tf.zeros([1, 2])), [[0.0, 0.0, 2.0]])
    assert layer.get_config()["activation"] == "relu"


def test_without_a_bias_there_is_none():
    layer = Dense(3, use_bias=False)
    layer(tf.zeros([1, 2]))
    assert len(layer.variables) == 1
