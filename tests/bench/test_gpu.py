"""Networks are timed on a GPU that takes them whole, and on no other."""

import pytest
import tensorflow as tf

from tfsnap.bench.gpu import time_on_gpu
from tfsnap.export.converter import convert
from tfsnap.export.graphs import block_graph
from tfsnap.export.software_gpu import software_gpu
from tfsnap.models.blocks import Block
from tfsnap.runtime.errors import InterpreterError, RequestError

BLOCK = Block("conv_in", 4, 16, 8, 8)


@pytest.fixture(scope="module")
def environment():
    return software_gpu().environment()


def test_a_block_is_timed_on_the_gpu(environment):
    model = convert(block_graph(BLOCK), "fp16").to_bytes()
    timing, gpu = time_on_gpu(model, name="conv_in", warmup=1, runs=3, environment=environment)
    assert timing.runs == 3 and timing.warmup == 1
    assert 0 < timing.warm_p50_ms <= timing.warm_p90_ms
    assert timing.load_ms > 0 and timing.first_run_ms > 0
    assert gpu.startswith("SwiftShader") and gpu.endswith("no speed of a GPU")


def test_what_does_not_run_whole_on_the_gpu_is_not_timed(environment):
    @tf.function(input_signature=[tf.TensorSpec([1, 4, 4, 16])])
    def broadcast(x):
        return {"y": tf.nn.relu(tf.broadcast_to(x[:, :, :1], [1, 4, 4, 16]))}

    model = tf.lite.TFLiteConverter.from_concrete_functions([broadcast.get_concrete_function()])
    with pytest.raises(InterpreterError, match="broadcast does not run whole on a GPU"):
        time_on_gpu(model.convert(), name="broadcast", environment=environment)


def test_a_machine_without_a_gpu_is_told_from_a_slow_one(environment, tmp_path):
    nothing = {**environment, "VK_DRIVER_FILES": str(tmp_path), "VK_ICD_FILENAMES": str(tmp_path)}
    model = convert(block_graph(BLOCK), "fp16").to_bytes()
    with pytest.raises(InterpreterError, match="does not run whole on a GPU of this machine"):
        time_on_gpu(model, name="conv_in", environment=nothing)


def test_runs_must_be_some():
    with pytest.raises(RequestError, match="runs is 0"):
        time_on_gpu(b"", name="nothing", runs=0)
