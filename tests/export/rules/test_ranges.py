"""What was recorded on the CPU tells what half precision cannot hold."""

import json

import numpy as np
import pytest
import tensorflow as tf

from tests.export.models import convert, normal
from tfsnap.config import write_json
from tfsnap.export.rules.checker import check_model
from tfsnap.export.rules.ranges import load_ranges
from tfsnap.export.rules.recorder import RecordingNetwork, record_bundle
from tfsnap.export.rules.targets import TARGETS
from tfsnap.runtime.bundle import Bundle


@pytest.fixture(scope="module")
def squares(tmp_path_factory):
    """A model that squares its input, and the networks that were run on small and large ones."""
    path = tmp_path_factory.mktemp("squares") / "model.tflite"
    x = normal(1, 4, 4, 8)
    convert(path, lambda x: {"y": tf.square(x + 1.0) * 1e-3}, x=x)

    def recorded(largest):
        network = RecordingNetwork(path)
        network(x=x * largest / np.abs(x).max())
        return network

    return path, recorded


@pytest.mark.parametrize(
    ("largest", "rules", "passed"),
    [(50.0, [], True), (200.0, ["near-overflow"], True), (300.0, ["overflow"], False)],
)
def test_overflow_is_found_in_the_operator_that_reaches_it(squares, largest, rules, passed):
    path, recorded = squares
    ranges = recorded(largest).ranges
    verdict = check_model(path, TARGETS["gpu"], name="squares", ranges=ranges)
    assert [finding.rule.id for finding in verdict.findings] == rules
    assert verdict.passed == passed
    assert all(finding.operator.builtin == "SQUARE" for finding in verdict.findings)
    assert check_model(path, TARGETS["xnnpack"], name="squares", ranges=ranges).passed


def test_ranges_are_those_of_all_calls(squares):
    path, recorded = squares
    network = recorded(10.0)
    before = dict(network.ranges)
    network(x=normal(1, 4, 4, 8) * 1e-3)
    assert network.ranges["serving_default_x:0"] == before["serving_default_x:0"]
    network(x=normal(1, 4, 4, 8) * 100)
    assert network.ranges["serving_default_x:0"][1] > before["serving_default_x:0"][1]


def test_a_bundle_draws_its_own_picture(bundles, tmp_path):
    bundle = Bundle.open(bundles["fp16"])
    ranges = record_bundle(bundle)
    assert set(ranges) == {"text_encoder", "unet", "decoder"}
    with bundle.model("unet") as path:
        verdict = check_model(path, TARGETS["gpu"], name="unet", ranges=ranges["unet"])
        with pytest.raises(ValueError, match="ranges of unet name none of its tensors"):
            check_model(path, TARGETS["gpu"], name="unet", ranges={"x": (0.0, 1.0)})
    assert verdict.passed, verdict.findings
    assert len(ranges["unet"]) > verdict.operators / 2
    write_json(tmp_path / "ranges.json", ranges)
    assert load_ranges(tmp_path / "ranges.json") == ranges


def test_ranges_are_read_from_archives_of_numpy_too(tmp_path):
    np.savez(tmp_path / "ranges.npz", **{"unet:a;b:0": [-1.0, 2.0], "decoder:c": [0.0, 1e6]})
    assert load_ranges(tmp_path / "ranges.npz") == {
        "unet": {"a;b:0": (-1.0, 2.0)},
        "decoder": {"c": (0.0, 1e6)},
    }


@pytest.mark.parametrize("content", [[1, 2], {"unet": {"a": 3}}, {"unet": {"a": ["x", "y"]}}])
def test_another_json_is_refused(tmp_path, content):
    path = tmp_path / "ranges.json"
    path.write_text(json.dumps(content))
    with pytest.raises(ValueError, match="holds no recorded ranges"):
        load_ranges(path)
