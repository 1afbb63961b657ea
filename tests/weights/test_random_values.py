import numpy as np
import tf_keras as keras

from tfsnap.models.weightless import build_weightless
from tfsnap.weights.random_values import random_values
from tfsnap.weights.store import assign


def network():
    dense = keras.layers.Dense(400, name="dense")
    norm = keras.layers.LayerNormalization(name="norm")
    x = keras.Input([300])
    return keras.Model(x, norm(dense(x)))


def test_a_network_without_weights_gets_those_that_training_starts_with():
    values = random_values(build_weightless(network).variables)
    again = random_values(network().variables)
    assert values.keys() == again.keys() and len(values) == 4
    for name, value in values.items():
        np.testing.assert_array_equal(value.read(), again[name].read())
    model = network()
    assign({name: value.read() for name, value in values.items()}, model.variables)
    x = np.random.default_rng(1).standard_normal([50, 300]).astype(np.float32)
    assert 0.9 < np.std(model.layers[1](x)) < 1.1  # Kernels keep variances.
    assert abs(values["norm.gamma"].read().mean() - 1) < 0.01


def test_no_two_weights_are_equal():
    values = random_values(build_weightless(network).variables)
    beta, bias = values["norm.beta"].read(), values["dense.bias"].read()
    assert abs(np.corrcoef(beta, bias)[0, 1]) < 0.5
