"""The graph with integer activations: what is where, and what it computes."""

import copy

import numpy as np
import pytest

from tests.export.stock import Parsed
from tests.export.test_skeleton import graph_of
from tfsnap.export.converter import folded
from tfsnap.export.flatbuffer import ConvertedModel
from tfsnap.export.quantisation.activations import (
    MissingRangeError,
    layers_of,
    store_as_integers,
)
from tfsnap.export.quantisation.formats import FORMATS, INT8, INT16
from tfsnap.export.quantisation.ranges import ranges_of
from tfsnap.export.quantisation.trials import QuantisedNetwork
from tfsnap.runtime.interpreter import load

LAYERS = ("CONV_2D", "FULLY_CONNECTED")


def stored(graph, form, values, **options):
    graph = copy.deepcopy(graph)
    store_as_integers(graph, form, ranges_of(values, "extremes", steps=form.steps), **options)
    return ConvertedModel("test", *graph.packed()).to_bytes()


def test_layers_are_quantised_and_nothing_else_is(observed):
    graph, values = observed["unet"]
    before = Parsed(ConvertedModel("test", *copy.deepcopy(graph).packed()).to_bytes()).operators()
    after = Parsed(stored(graph, INT8, values)).operators()
    assert len(layers_of(graph)) == sum(before[name] for name in LAYERS)
    added = {name: count - before[name] for name, count in after.items() if count != before[name]}
    # Reshapes between layers take integers; none of the others is doubled.
    assert set(added) == {"QUANTIZE", "DEQUANTIZE"}
    assert 0 < added["DEQUANTIZE"] <= len(layers_of(graph))


@pytest.mark.parametrize("form", FORMATS.values(), ids=FORMATS)
def test_layers_that_are_kept_are_exact(observed, unet, calls_of, form):
    graph, values = observed["unet"]
    content = stored(graph, form, values, kept=set(layers_of(graph)))
    assert not Parsed(content).scales()
    ((inputs, outputs),) = calls_of(unet, count=1)
    found = load(content, name="unet")(**inputs)["prediction"]
    wanted = outputs["prediction"]
    np.testing.assert_allclose(found, wanted, atol=2e-3 * np.ptp(wanted))


def test_one_quantize_serves_all_readers(observed):
    graph, values = observed["unet"]
    found = Parsed(stored(graph, INT8, values)).operators()
    assert found["QUANTIZE"] < len(layers_of(graph)) - 2  # Query, key and value of an attention.


def affine(weight, bias):
    return graph_of(
        lambda x, w, b: x @ w + b,
        w=np.asarray(weight, np.float32),
        b=np.asarray(bias, np.float32),
    )


@pytest.mark.parametrize("form", [INT8, INT16], ids=["int8", "int16"])
def test_a_bias_far_beyond_its_weights(form):
    """In the unit of the products it would be 8e11, beyond int32."""
    graph = folded(affine(np.full([4, 2], 1e-9), [30.0, -10.0]))
    (layer,) = layers_of(graph).values()
    ranges = {graph.name(layer.inputs[0]): (-1.0, 1.0), graph.name(layer.outputs[0]): (-10.0, 30.0)}
    content = QuantisedNetwork("affine", graph, form, ranges).model().to_bytes()
    found = load(content, name="affine")(x=np.ones([1, 4], np.float32))["y"]
    np.testing.assert_allclose(found, [[30.0, -10.0]], atol=0.1)


def test_a_range_that_was_not_recorded(observed):
    graph, values = observed["unet"]
    name = graph.name(next(iter(layers_of(graph).values())).outputs[0])
    with pytest.raises(MissingRangeError, match="no range of"):
        stored(graph, INT8, {key: v for key, v in values.items() if key != name})
