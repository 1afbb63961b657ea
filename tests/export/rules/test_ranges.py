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


@pytest.mark.parametrize("pair", [(1.0, np.nan), (np.nan, 1.0), (-np.inf, 1.0), (np.nan, np.nan)])
def test_what_is_not_finite_overflows_whichever_end_it_is(squares, pair):
    path, recorded = squares
    ranges = recorded(50.0).ranges
    verdict = check_model(path, TARGETS["gpu"], name="squares", ranges=dict.fromkeys(ranges, pair))
    assert not verdict.passed
    assert {finding.rule.id for finding in verdict.findings} == {"overflow"}


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
    assert set(ranges) == {"text_encoder", "unet", "decoder", "encoder"}
    assert len(ranges["encoder"]) > 20
    with bundle.model("unet") as path:
        verdict = check_model(path, TARGETS["gpu"], name="unet", ranges=ranges["unet"])
        with pytest.raises(ValueError, match="ranges of unet name none of its tensors"):
            check_model(path, TARGETS["gpu"], name="unet", ranges={"x": (0.0, 1.0)})
        assert verdict.without_ranges == () and verdict.coverage[0].lacking == ()
        verdict = check_model(path, TARGETS["gpu"], name="unet", ranges={})
        assert verdict.without_ranges == ("",)
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


@pytest.mark.parametrize("cut", [0, 1, 40, 300, -30])
def test_an_archive_that_is_empty_or_cut_short_is_refused(tmp_path, cut):
    path = tmp_path / "ranges.npz"
    np.savez_compressed(path, **{"unet:a;b:0": [-1.0, 2.0], "decoder:c": [0.0, 1e6]})
    path.write_bytes(path.read_bytes()[:cut])
    with pytest.raises(ValueError, match=r"ranges.npz holds no recorded ranges: \S"):
        load_ranges(path)


def test_flipped_bytes_of_an_archive_are_refused_or_do_no_harm(tmp_path):
    path, rng = tmp_path / "ranges.npz", np.random.default_rng(0)
    for save in (np.savez, np.savez_compressed):
        save(path, **{"unet:a;b:0": [-1.0, 2.0], "decoder:c": [0.0, 1e6]})
        whole = path.read_bytes()
        for place in range(len(whole)):
            path.write_bytes(whole[:place] + rng.bytes(1) + whole[place + 1 :])
            try:
                load_ranges(path)
            except ValueError as error:
                assert str(error).startswith(f"{path} holds no recorded ranges: ")


@pytest.mark.parametrize("content", [[1, 2], {"unet": {"a": 3}}, {"unet": {"a": ["x", "y"]}}])
def test_another_json_is_refused(tmp_path, content):
    path = tmp_path / "ranges.json"
    path.write_text(json.dumps(content))
    with pytest.raises(ValueError, match="holds no recorded ranges"):
        load_ranges(path)
