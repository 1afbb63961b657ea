"""Networks on a shelf: one in memory, loaded again only after another."""

import gc
import weakref

import numpy as np
import pytest

from tfsnap.runtime.manifest import TensorSpec
from tfsnap.runtime.shelf import Shelf, ShelvedNetwork


class Doubles:
    """Twice its input, as a loaded network."""

    backend = "backend"
    inputs = outputs = (TensorSpec("x", "float32", (2,)),)

    def __call__(self, x):
        return {"x": 2 * x}

    def set(self, x):
        self.x = x

    def invoke(self):
        self.invoked = self.x

    def delegate(self):
        return "none"


@pytest.fixture
def alive():
    return weakref.WeakSet()


@pytest.fixture
def loads():
    return []


@pytest.fixture
def networks(alive, loads):
    def load(name):
        gc.collect()
        assert not alive
        network = Doubles()
        alive.add(network)
        loads.append(name)
        return network

    shelf = Shelf()
    return {name: ShelvedNetwork(lambda name=name: load(name), shelf) for name in ("a", "b")}


def test_a_network_stays_until_another_is_run(networks, loads, alive):
    x = np.ones(2, np.float32)
    loads.clear()
    for name in ("a", "a", "b", "b", "b", "a"):
        np.testing.assert_array_equal(networks[name](x=x)["x"], 2 * x)
    assert loads == ["a", "b", "a"]
    gc.collect()
    assert len(alive) == 1


def test_inputs_outlive_another_network(networks, alive):
    networks["a"].set(x=3)
    networks["b"](x=1)
    networks["a"].invoke()
    (network,) = alive
    assert network.invoked == 3


def test_it_says_what_the_network_says(networks):
    network = networks["a"]
    assert (network.inputs, network.outputs) == (Doubles.inputs, Doubles.outputs)
    assert (network.backend, network.delegate()) == ("backend", "none")
