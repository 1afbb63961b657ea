import dataclasses

import numpy as np
import pytest
import tensorflow as tf

from tfsnap.export.quantisation.calibration import (
    NetworkCalibration,
    fingerprint,
    load_calibration,
    require_same_shapes,
    require_same_weights,
    save_calibration,
)
from tfsnap.export.rules.ranges import load_ranges
from tfsnap.weights.tensors import save_tensors


@pytest.fixture
def calibration(products, observed, calls_of):
    _, values = observed["products"]
    one = NetworkCalibration(fingerprint(products), values, calls_of(products, count=11))
    return {"unet": one, "unet@24x16": dataclasses.replace(one, calls=[])}


def test_a_file_gives_back_what_was_saved(calibration, tmp_path):
    path = tmp_path / "calibration.safetensors"
    save_calibration(path, calibration)
    found = load_calibration(path)
    assert found.keys() == calibration.keys()
    for name, one in calibration.items():
        assert found[name].weights == one.weights
        assert found[name].observed.keys() == one.observed.keys()
        for key, values in one.observed.items():
            np.testing.assert_array_equal(found[name].observed[key], values)
        assert len(found[name].calls) == len(one.calls)
        for call, other in zip(found[name].calls, one.calls, strict=True):
            np.testing.assert_array_equal(call[0]["x"], other[0]["x"])
            np.testing.assert_array_equal(call[1]["y"], other[1]["y"])


def test_the_overflow_check_reads_it(calibration, tmp_path):
    path = tmp_path / "calibration.safetensors"
    save_calibration(path, calibration)
    ranges = load_ranges(path)
    assert ranges["unet"] == calibration["unet"].extremes()
    assert all(least < most for least, most in ranges["unet"].values())


def test_another_file(tmp_path):
    path = tmp_path / "weights.safetensors"
    save_tensors(path, {"layer.kernel": np.ones(3, np.float32)})
    with pytest.raises(ValueError, match="holds no calibration but layer.kernel: give another"):
        load_calibration(path)


@pytest.mark.parametrize("index", [0, 1])  # A matrix and a bias.
def test_other_weights(products, calibration, index):
    mark = fingerprint(products)
    require_same_weights("file", calibration, {"unet": mark})
    variable = products.variables[index]
    before = variable.numpy()
    changed = before.copy()
    changed.flat[changed.size // 2] += 1e-3
    variable.assign(changed)
    try:
        other = fingerprint(products)
    finally:
        variable.assign(before)
    with pytest.raises(ValueError, match=r"file was recorded with other weights of unet: give"):
        require_same_weights("file", calibration, {"unet": other})


@pytest.mark.parametrize("missing", ["decoder", "unet@24x16"])  # The second has no evaluations.
def test_a_network_that_was_not_recorded(products, calibration, missing):
    mark = fingerprint(products)
    with pytest.raises(ValueError, match=rf"file has no calibration of {missing}: give another"):
        require_same_weights("file", calibration, {"unet": mark, missing: mark})


def test_a_file_of_an_earlier_version_that_did_not_look_at_matrices(products, calibration):
    old = {"unet": dataclasses.replace(calibration["unet"], weights="a" * 64)}
    with pytest.raises(ValueError, match=r"file was recorded by an earlier tfsnap, which did not"):
        require_same_weights("file", old, {"unet": fingerprint(products)})


def test_another_size(products, calibration):
    require_same_shapes("file", calibration, {"unet": products})
    wide = {"x": tf.TensorSpec([1, 6, 16, 8], tf.float32)}
    message = (
        r"file was recorded with another --shape or --guidance_batch: the unet took "
        r"x \[1, 6, 8, 8\] and takes x \[1, 6, 16, 8\] here; give another --calibration"
    )
    with pytest.raises(ValueError, match=message):
        require_same_shapes(
            "file", calibration, {"unet": dataclasses.replace(products, inputs=wide)}
        )
