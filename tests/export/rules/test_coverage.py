"""Ranges are those of the network that they judge, or they are refused."""

import json

import numpy as np
import pytest
import tensorflow as tf
import tf_keras as keras

from tests.tools.refusals import ending, refusal
from tfsnap.config import write_json
from tfsnap.export import precision
from tfsnap.export.converter import convert, folded
from tfsnap.export.graphs import Graph
from tfsnap.export.quantisation.activations import tensors_to_observe
from tfsnap.export.rules.checker import check_model
from tfsnap.export.rules.recorder import RecordingNetwork, record_bundle
from tfsnap.export.rules.report import table, to_json
from tfsnap.export.rules.targets import TARGETS
from tfsnap.export.wide_convolutions import split_wide
from tfsnap.runtime.bundle import Bundle
from tfsnap.weights.store import in_memory

CHANNELS, ROWS = 20, 72  # 9 x 20 rows of weights: three parts.


@pytest.fixture(scope="module")
def graph():
    """Two convolutions, of which the first is wide."""
    keras.utils.set_random_seed(0)
    layers = keras.Sequential(
        [
            keras.layers.Conv2D(8, 3, padding="same", activation="tanh", name="first"),
            keras.layers.Conv2D(4, 3, padding="same", name="second"),
        ]
    )
    layers(tf.zeros([1, 6, 5, CHANNELS]))
    function = tf.function(lambda x: {"y": tf.tanh(layers(x))})
    inputs = {"x": tf.TensorSpec([1, 6, 5, CHANNELS], tf.float32, name="x")}
    return Graph("wide", function, inputs, layers.variables, in_memory(layers.variables))


@pytest.fixture(scope="module")
def recorded(graph):
    """Ranges of all of its tensors."""
    network = RecordingNetwork(convert(graph, "fp16").to_bytes())
    network(x=np.ones([1, 6, 5, CHANNELS], np.float32))
    return network.ranges


@pytest.fixture(scope="module")
def calibrated(graph, recorded):
    """The ranges that a calibration has."""
    skeleton = folded(graph)
    return {name: recorded[name] for name in map(skeleton.name, tensors_to_observe(skeleton))}


def check(model, ranges):
    return check_model(model.to_bytes(), TARGETS["gpu"], name="wide", ranges=ranges)


def test_a_calibration_covers_the_inputs_and_outputs_of_layers(graph, recorded, calibrated):
    (whole,) = check(convert(graph, "fp16"), recorded).coverage
    assert whole.covered == whole.tensors and not whole.lacking
    verdict = check(convert(graph, "fp16"), calibrated)
    (part,) = verdict.coverage
    assert 0 < part.covered < part.tensors and not part.lacking
    assert f"  ranges of {part.covered} of {part.tensors} tensors\n" in table([verdict]) + "\n"
    assert to_json([verdict])[0]["ranges"] == {"covered": part.covered, "tensors": part.tensors}
    assert to_json([check(convert(graph, "fp16"), None)])[0]["ranges"] is None


def test_one_layer_less_is_another_network(graph, calibrated):
    for name in calibrated:
        others = {other: pair for other, pair in calibrated.items() if other != name}
        told = f"ranges of wide lack 1 of the {len(calibrated)} inputs and outputs of its layers, "
        with pytest.raises(ValueError, match=told) as error:
            check(convert(graph, "fp16"), others)
        assert f"such as {name}: they are of another network, record them again" in str(error.value)


def test_parts_of_a_wide_convolution_are_made_after_the_calibration(graph, calibrated, monkeypatch):
    monkeypatch.setattr(precision, "split_wide", lambda edited: split_wide(edited, ROWS))
    parts = convert(graph, "fp16")
    assert b"/part_8" in parts.to_bytes()
    assert check(parts, calibrated).passed


def test_ranges_of_another_bundle(bundles, tmp_path, capsys):
    """As those of a network of the same kind with other blocks, which share many names."""
    ranges = record_bundle(Bundle.open(bundles["fp16"]))
    files = tmp_path / "own.json", tmp_path / "other.json", tmp_path / "report.json"
    write_json(files[0], ranges)
    flags = "--target=gpu", f"--json={files[2]}"
    assert ending("check_delegate", bundles["int8"], *flags, f"--ranges={files[0]}") is not None
    unet = json.loads(files[2].read_text())[1]
    assert unet["ranges"]["covered"] == unet["ranges"]["tensors"] > 100
    assert f"ranges of {unet['ranges']['covered']:,} of" in capsys.readouterr().out
    ranges["unet"] = {n: p for n, p in ranges["unet"].items() if ".attentions.0.1." not in n}
    write_json(files[1], ranges)
    told = refusal("check_delegate", bundles["fp16"], *flags, f"--ranges={files[1]}")
    assert told.startswith("check_delegate: the ranges of unet lack ") and "\n" not in told
    larger = ranges | {"unet": {**json.loads(files[0].read_text())["unet"]}}
    larger["unet"] |= {f"{n}.more": p for n, p in list(larger["unet"].items())[::5]}
    write_json(files[1], larger)
    told = refusal("check_delegate", bundles["fp16"], *flags, f"--ranges={files[1]}")
    assert "tensors of" in told and "that it does not have, such as" in told
