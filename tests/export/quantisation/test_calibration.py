import dataclasses

import numpy as np
import pytest

from tfsnap.export.quantisation.calibration import (
    NetworkCalibration,
    fingerprint,
    load_calibration,
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


def test_other_weights(products, calibration):
    mark = fingerprint(products)
    require_same_weights("file", calibration, {"unet": mark})
    with pytest.raises(ValueError, match=r"file has no calibration of decoder: give another"):
        require_same_weights("file", calibration, {"unet": mark, "decoder": mark})
    bias = products.variables[1]
    before = bias.numpy()
    bias.assign_add(np.full(before.shape, 1e-3, np.float32))
    try:
        changed = fingerprint(products)
    finally:
        bias.assign(before)
    with pytest.raises(ValueError, match=r"file was recorded with other weights of unet: give"):
        require_same_weights("file", calibration, {"unet": changed})
