"""The GPU gate accepts what a GPU runs right and refuses what it cannot run, or runs wrong."""

import math

import numpy as np
import pytest
import tensorflow as tf

from tests.export.models import attention, convert, convolution_and_group_norm, normal
from tfsnap.export import delegate
from tfsnap.export.delegate import DelegateReport, check_on_gpu
from tfsnap.export.software_gpu import SoftwareGpu


@pytest.mark.parametrize(
    ("function", "shape"), [(convolution_and_group_norm, (1, 8, 8, 8)), (attention, (1, 12, 16))]
)
def test_accepts_layers_of_the_networks(tmp_path, function, shape):
    x = normal(*shape)
    report = check_on_gpu(convert(tmp_path / "model.tflite", function, x=x), {"x": x})
    assert report.passed, report
    assert report.whole
    assert report.max_error < 1e-5


def rank_five(x):
    return tf.transpose(tf.reshape(x, [1, 4, 4, 2, 8]), [0, 3, 1, 4, 2]) * 2.0


def broadcast(x):
    return tf.nn.relu(tf.broadcast_to(x[:, :, :1], [1, 4, 4, 16]))


@pytest.mark.parametrize(
    ("function", "complaint"), [(rank_five, "less than 5"), (broadcast, "BROADCAST_TO")]
)
def test_refuses_graphs_that_do_not_compile_whole(tmp_path, function, complaint):
    x = normal(1, 4, 4, 16)
    report = check_on_gpu(convert(tmp_path / "model.tflite", function, x=x), {"x": x})
    assert not report.whole
    assert not report.passed
    assert math.isinf(report.max_error)
    assert any(complaint in line for line in report.log_errors)
    assert complaint in str(report)


def matmul_of_broadcast_batch(a, b):
    return tf.matmul(a, b)


def constant_of_rank_two(a, b):
    return a + b + normal(12, 16)


@pytest.mark.parametrize(
    ("function", "shapes"),
    [
        (matmul_of_broadcast_batch, [(4, 8, 8), (1, 8, 8)]),
        (constant_of_rank_two, [(12, 16), (12, 16)]),
    ],
)
def test_refuses_graphs_that_compile_whole_and_compute_something_else(tmp_path, function, shapes):
    inputs = {
        name: normal(*shape, seed=i)
        for i, (name, shape) in enumerate(zip("ab", shapes, strict=True))
    }
    report = check_on_gpu(convert(tmp_path / "model.tflite", function, **inputs), inputs)
    assert report.whole
    assert report.max_error > 0.01
    assert not report.passed
    assert "of the output range" in str(report)


def test_inputs_must_be_the_models(tmp_path):
    path = convert(tmp_path / "model.tflite", lambda x: x * 2.0, x=normal(1, 4))
    with pytest.raises(ValueError, match=r"'x': \('float32', \(1, 4\)\).*'y'"):
        check_on_gpu(path, {"y": normal(1, 4)})
    with pytest.raises(ValueError, match=r"\(1, 5\)"):
        check_on_gpu(path, {"x": normal(1, 5)})


def test_outputs_that_prove_nothing_are_refused(tmp_path):
    path = convert(tmp_path / "model.tflite", lambda x: tf.nn.relu(x) * 2.0, x=normal(1, 4))
    with pytest.raises(ValueError, match="0 everywhere on the CPU"):
        check_on_gpu(path, {"x": -np.ones((1, 4), np.float32)})


def test_what_is_no_model_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match="nowhere"):
        check_on_gpu(tmp_path / "nowhere.tflite", {})
    garbage = tmp_path / "garbage.tflite"
    garbage.write_bytes(b"not a flatbuffer")
    with pytest.raises(ValueError, match="garbage"):
        check_on_gpu(garbage, {})


def test_a_missing_gpu_is_no_verdict_on_the_model(tmp_path):
    path = convert(tmp_path / "model.tflite", lambda x: x * 2.0, x=normal(1, 4))
    with pytest.raises(RuntimeError, match="never reached the software GPU"):
        check_on_gpu(path, {"x": normal(1, 4)}, gpu=SoftwareGpu(tmp_path))


def test_validation_errors_fail_a_model_whose_numbers_are_right():
    log = "INFO: fine\nValidation error: buffer too small\nINFO: done"
    complaints = delegate.log_errors(log)
    assert complaints == ["Validation error: buffer too small"]
    assert not DelegateReport(whole=True, max_error=0.0, log_errors=complaints).passed
    assert DelegateReport(whole=True, max_error=0.0, log_errors=[]).passed


def test_log_errors_keep_the_reasons_and_drop_the_rest():
    log = """INFO: [registry] WARNING: with error: ERROR: a plugin is missing
ERROR: Following operations are not supported by GPU delegate:
DEQUANTIZE:
GATHER: Only support 1D indices
1 operations will run on the GPU, and the remaining 2 operations will run on the CPU.
INFO: bye"""
    assert delegate.log_errors(log) == log.splitlines()[1:2] + log.splitlines()[3:5]
