"""Integer activations beside those of TensorFlow's converter, calibrated on the same inputs."""

import numpy as np
import pytest

from tests.export.stock import Parsed, stock_quantise
from tfsnap.export.converter import folded
from tfsnap.export.flatbuffer import ConvertedModel
from tfsnap.export.parity import psnr_db
from tfsnap.export.quantisation.formats import FORMATS
from tfsnap.export.quantisation.ranges import ranges_of
from tfsnap.export.quantisation.trials import QuantisedNetwork
from tfsnap.export.rules.recorder import RecordingNetwork
from tfsnap.runtime.interpreter import load


@pytest.fixture(scope="module")
def products_in_floats(products, calls_of):
    """The folded graph, and the ranges that its activations have in floats."""
    whole = ConvertedModel("products", *folded(products).packed()).to_bytes()
    network = RecordingNetwork(whole)
    for inputs, _ in calls_of(products):
        network(**inputs)
    return folded(products), network.ranges


@pytest.mark.parametrize("precision", FORMATS)
def test_products_are_quantised_alike(products, products_in_floats, calls_of, precision):
    graph, ranges = products_in_floats
    form = FORMATS[precision]
    # The converter leaves int16 no headroom.
    narrow = {name: tuple(np.array(pair) / form.headroom) for name, pair in ranges.items()}
    ours = QuantisedNetwork("products", graph, form, narrow).model().to_bytes()
    stock = stock_quantise(products, calls_of(products), wide=precision == "int16")
    assert Parsed(ours).operators() == Parsed(stock).operators()
    np.testing.assert_allclose(sorted(Parsed(ours).scales()), sorted(Parsed(stock).scales()), 1e-6)
    for one, other in zip(Parsed(ours).quantised(), Parsed(stock).quantised(), strict=True):
        assert one[:2] == other[:2]
        np.testing.assert_array_equal(one[2], other[2])
        np.testing.assert_array_equal(one[3], other[3])
    for inputs, _ in calls_of(products, seed=1):
        found, wanted = (load(content, name="products")(**inputs)["y"] for content in (ours, stock))
        np.testing.assert_allclose(found, wanted, 1e-6)  # The scale of the result is rounded.


@pytest.fixture(scope="module")
def both_unets(unet, observed, calls_of):
    """By precision, ours and the converter's."""
    graph, values = observed["unet"]
    return {
        precision: (
            QuantisedNetwork("unet", graph, form, ranges_of(values, "extremes", steps=form.steps))
            .model()
            .to_bytes(),
            stock_quantise(unet, calls_of(unet), wide=precision == "int16"),
        )
        for precision, form in FORMATS.items()
    }


@pytest.mark.parametrize("precision", FORMATS)
def test_weights_of_a_unet_are_the_same(both_unets, precision):
    """Scales to the bit; a weight between two integers may go to the other one."""
    ours, stock = (Parsed(content).quantised() for content in both_unets[precision])
    # The converter quantises the scales and shifts of norms as well.
    theirs = {(shape, axis, scales.tobytes()): i for shape, axis, scales, i in stock}
    assert len(ours) > 20
    for shape, axis, scales, integers in ours:
        difference = integers.astype(int) - theirs[shape, axis, scales.tobytes()]
        assert np.abs(difference).max() <= 1
        assert np.mean(difference != 0) < 1e-3


@pytest.mark.parametrize("precision", FORMATS)
def test_a_unet_is_nearer_to_keras_than_the_stock_one(unet, both_unets, calls_of, precision):
    reached = []
    for content in both_unets[precision]:
        network = load(content, name="unet")
        pairs = [
            (outputs["prediction"], network(**inputs)["prediction"])
            for inputs, outputs in calls_of(unet, seed=1)
        ]
        reached.append(psnr_db(*map(np.concatenate, zip(*pairs, strict=True))))
    assert reached[0] > max(reached[1], {"int8_full": 35.0, "int16": 45.0}[precision]), reached
