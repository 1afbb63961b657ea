"""The exporter's one path against TensorFlow's: operators, int8 weights and outputs."""

import numpy as np
import pytest

from tests.export.conftest import randomise
from tests.export.models import example_inputs
from tests.export.stock import Parsed, stock_convert
from tfsnap.config import AutoencoderConfig, StageConfig, TinyDecoderConfig, UNetConfig
from tfsnap.export.converter import convert
from tfsnap.export.graphs import block_graph, component_graphs, decoder_graph
from tfsnap.models.autoencoder import build_autoencoder
from tfsnap.models.blocks import blocks_of
from tfsnap.runtime.interpreter import load

BLOCKS = UNetConfig(
    down=(StageConfig(32, 1, 0), StageConfig(64, 1, 1)),
    mid=None,
    up=(StageConfig(64, 2, 0), StageConfig(32, 2, 0)),
    context_width=24,
    heads=4,
    groups=8,
)
KINDS = {block.kind: block for block in blocks_of(BLOCKS, latent=(4, 6), tokens=5).values()}


def tiny_decoder():
    """One of its depthwise kernels is large enough for int8."""
    tiny = TinyDecoderConfig(channels=(12, 128), blocks=(1, 2))
    config = AutoencoderConfig(channels=(16, 32), groups=8, resnets=1, tiny_decoder=tiny)
    model = build_autoencoder(config)
    randomise(model, 3)
    return decoder_graph(model, latent=(8, 12))


def randomised_block(kind):
    graph = block_graph(KINDS[kind])
    rng = np.random.default_rng(0)
    for variable in graph.variables:
        value = variable.numpy() + 0.1 * rng.standard_normal(variable.shape)
        if value.ndim == 4:  # Channels that are nothing, and nearly nothing.
            value[..., 0], value[..., 1] = 0.0, 1e-9 * value[..., 1]
        variable.assign(value)
    return graph


NAMES = ["text_encoder", "unet", "decoder", "encoder", "tiny_decoder", *KINDS]


@pytest.fixture(scope="module", params=NAMES)
def graph(request, latent_diffusion):
    if request.param == "tiny_decoder":
        return tiny_decoder()
    if request.param in KINDS:
        return randomised_block(request.param)
    return component_graphs(latent_diffusion)[request.param]


@pytest.fixture(scope="module", params=["fp16", "int8"])
def both(request, graph):
    """Precision, the stock flatbuffer and ours."""
    precision = request.param
    return precision, stock_convert(graph, precision), convert(graph, precision).to_bytes()


def test_operators_are_the_same(graph, both):
    precision, stock, ours = both
    wanted, found = Parsed(stock).operators(), Parsed(ours).operators()
    if precision == "fp16":
        wanted["DEQUANTIZE"] -= wanted["GATHER"]  # Tables that are gathered stay float32.
    assert found == wanted
    assert Parsed(ours).activations() == Parsed(stock).activations()


def test_int8_weights_are_bit_equal(graph, both):
    precision, stock, ours = both
    wanted, found = Parsed(stock).quantised(), Parsed(ours).quantised()
    assert len(found) == len(wanted)
    if precision == "int8" and graph.name in NAMES[:5]:
        assert wanted
    for (shape, axis, scales, integers), (their_shape, their_axis, theirs, other) in zip(
        found, wanted, strict=True
    ):
        assert (shape, axis) == (their_shape, their_axis)
        np.testing.assert_array_equal(scales, theirs)
        np.testing.assert_array_equal(integers, other)


def test_outputs_are_the_same(graph, both):
    precision, stock, ours = both
    inputs = example_inputs(graph.inputs.values())
    wanted, found = (load(content, name=graph.name)(**inputs) for content in (stock, ours))
    keras = graph.run(**inputs)
    for name, expected in wanted.items():
        spread = np.ptp(keras[name])
        off = np.abs(found[name] - keras[name])
        if precision == "fp16":
            # The table in float32 is nearer to Keras than the stock converter's.
            tolerance = 5e-4 if graph.name == "text_encoder" else 1e-5
            np.testing.assert_allclose(found[name], expected, atol=tolerance * spread, rtol=0)
            assert off.max() < 2e-3 * spread
        else:
            # Float rounding may turn an activation to the next of its 256 steps, which every
            # number behind it shows: as near to Keras then, and not the same.
            assert off.max() < 0.1 * spread
            assert rms(off) < 1.5 * rms(expected - keras[name]) + 1e-6 * spread


def rms(array):
    return np.sqrt(np.mean(np.square(array)))
