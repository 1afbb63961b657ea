"""Small networks, and what was observed of them."""

import dataclasses

import numpy as np
import pytest
import tensorflow as tf

from tests.export.conftest import randomise
from tfsnap.config import AutoencoderConfig, StageConfig, UNetConfig
from tfsnap.export.converter import folded
from tfsnap.export.graphs import Graph, unet_graph
from tfsnap.export.quantisation.observer import observe
from tfsnap.models.autoencoder import build_autoencoder
from tfsnap.models.unet import build_unet
from tfsnap.weights.store import in_memory

CALLS = 6


def layer(rng, name, *shape):
    """A kernel and a bias."""
    return [
        tf.Variable(rng.standard_normal(sides).astype(np.float32), name=f"{name}/{kind}")
        for kind, sides in (("kernel", shape), ("bias", shape[-1:]))
    ]


@pytest.fixture(scope="session")
def products():
    """Two convolutions and a fully-connected layer, and nothing that stays in floats."""
    rng = np.random.default_rng(0)
    layers = (
        layer(rng, "first", 3, 3, 8, 16),
        layer(rng, "second", 1, 1, 16, 24),
        layer(rng, "third", 24, 16),
    )

    def function(x):
        for kernel, bias in layers[:2]:
            x = tf.nn.conv2d(x, kernel, 1, "SAME") + bias
        kernel, bias = layers[2]
        return {"y": tf.matmul(tf.reshape(x, [1, 48, 24]), kernel) + bias}

    inputs = {"x": tf.TensorSpec([1, 6, 8, 8], tf.float32, name="x")}
    variables = [value for pair in layers for value in pair]
    return Graph("products", tf.function(function), inputs, variables, in_memory(variables))


@pytest.fixture(scope="session")
def little(latent_diffusion):
    """A model of few layers, each of which can be tried alone in a test."""
    unet = UNetConfig(
        down=(StageConfig(32, 1, 0), StageConfig(32, 1, 1)),
        mid=None,
        up=(StageConfig(32, 2, 0), StageConfig(32, 2, 0)),
        context_width=32,
        heads=4,
        groups=8,
    )
    autoencoder = AutoencoderConfig(channels=(16, 16), groups=8, resnets=1, scale=0.8)
    parts = {"unet": build_unet(unet), "autoencoder": build_autoencoder(autoencoder)}
    for seed, network in enumerate(parts.values()):
        randomise(network, seed)
    return dataclasses.replace(latent_diffusion, **parts)


@pytest.fixture(scope="session")
def unet(little):
    return unet_graph(little.unet, latent=(8, 12), tokens=12)


@pytest.fixture(scope="session")
def calls_of():
    """Random inputs of a graph, with what Keras makes of them."""

    def calls(graph, count=CALLS, seed=0):
        rng = np.random.default_rng(seed)
        made = []
        for _ in range(count):
            inputs = {
                name: rng.standard_normal(spec.shape).astype(np.float32)
                for name, spec in graph.inputs.items()
            }
            made.append((inputs, graph.run(**inputs)))
        return made

    return calls


@pytest.fixture(scope="session")
def observed(products, unet, calls_of, session_dir):
    """The folded graph of each network, and values of its activations."""
    found = {}
    for graph in (products, unet):
        edited = folded(graph)
        path = session_dir / f"{graph.name}-observed.tflite"
        found[graph.name] = edited, observe(edited, calls_of(graph), path)
    return found
