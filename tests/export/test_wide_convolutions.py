"""Convolutions in parts: as narrow as asked, and the same sums."""

import numpy as np
import pytest
import tensorflow as tf
import tf_keras as keras

from tfsnap.export import precision
from tfsnap.export.converter import convert
from tfsnap.export.graphs import Graph
from tfsnap.export.tflite_graph import TFLiteGraph
from tfsnap.export.wide_convolutions import split_wide
from tfsnap.runtime.interpreter import load
from tfsnap.weights.store import in_memory

CHANNELS, ROWS = 20, 72  # 9 x 20 rows of weights: three parts of 8, 8 and 4 channels.
ALSO_THREE = 90  # Rows of two parts, of ten channels, which are no whole number of vectors.


@pytest.fixture(scope="module")
def graph():
    """A wide convolution with an activation, then one that is not wide."""
    keras.utils.set_random_seed(0)
    layers = keras.Sequential(
        [
            keras.layers.Conv2D(8, 3, padding="same", activation="relu", bias_initializer="normal"),
            keras.layers.Conv2D(4, 3, strides=2, padding="same"),
        ]
    )
    layers(tf.zeros([1, 6, 5, CHANNELS]))
    function = tf.function(lambda x: {"y": layers(x)})
    inputs = {"x": tf.TensorSpec([1, 6, 5, CHANNELS], tf.float32, name="x")}
    return Graph("wide", function, inputs, layers.variables, in_memory(layers.variables))


def run(model, path):
    path.write_bytes(model.to_bytes())
    network = load(path, name="wide")
    x = np.random.default_rng(0).standard_normal([1, 6, 5, CHANNELS]).astype(np.float32)
    return network(x=x)["y"]


@pytest.mark.parametrize("rows", [ROWS, ALSO_THREE])
def test_parts_compute_what_the_whole_does(graph, tmp_path, monkeypatch, rows):
    whole = convert(graph, "fp16")
    monkeypatch.setattr(precision, "split_wide", lambda edited: split_wide(edited, rows))
    parts = convert(graph, "fp16")
    parsed = TFLiteGraph.parse(parts.to_bytes())
    names = [op.name for op in parsed.operators if op.name != "DEQUANTIZE"]
    assert names == ["SLICE", "CONV_2D"] * 2 + ["ADD"] + ["SLICE", "CONV_2D", "ADD"] + ["CONV_2D"]
    kernels = [parsed.shape(op.inputs[1]) for op in parsed.operators if op.name == "CONV_2D"]
    assert [shape[-1] for shape in kernels] == [8, 8, 4, 8]
    np.testing.assert_allclose(
        run(parts, tmp_path / "parts"), run(whole, tmp_path / "whole"), atol=2e-6
    )


def test_only_what_gpus_run_is_in_parts(graph, monkeypatch):
    monkeypatch.setattr(precision, "split_wide", lambda edited: split_wide(edited, ROWS))
    names = [op.name for op in TFLiteGraph.parse(convert(graph, "int8").to_bytes()).operators]
    assert names == ["CONV_2D", "CONV_2D"]
