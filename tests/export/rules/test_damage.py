"""A damaged file is one line that names it, whatever of it is damaged."""

import random
import struct

import numpy as np
import pytest
import tensorflow as tf

from tests.export.models import normal
from tests.export.rules.violations import MAP, edited, fp16, indices
from tfsnap.export.rules.checker import check_model
from tfsnap.export.rules.graph import read_graphs
from tfsnap.export.rules.limits import find_gpu_class
from tfsnap.export.rules.report import table, to_json
from tfsnap.export.rules.targets import TARGETS


def network(a):
    """Something of what most rules look at."""
    x = tf.nn.softmax(tf.nn.conv2d(a, normal(3, 3, 16, 16), 1, "SAME"))
    x = tf.gather(tf.pad(x[:, ::2], [[0, 0], [1, 1], [0, 0], [0, 0]]), indices(6), axis=1)
    x = tf.concat(tf.split(x + normal(4, 16), 2, axis=-1), -1)
    return tf.matmul(tf.matmul(x, x, transpose_b=True), x)


@pytest.fixture(scope="module")
def whole():
    model = fp16(network, MAP)
    kinds = {operator.builtin for operator in read_graphs(model, name="whole")[0].operators}
    looked_at = {"BATCH_MATMUL", "CONCATENATION", "CONV_2D", "GATHER", "PAD", "SOFTMAX", "SPLIT"}
    assert kinds >= looked_at | {"DEQUANTIZE", "STRIDED_SLICE"}
    return model


def complaint(path):
    """What the rules of all targets, and the report, say of a file; None if they find no damage."""
    verdicts = []
    try:
        for target in TARGETS.values():
            gpu = find_gpu_class("adreno-740")
            ranges = {"serving_default_a:0": (0.0, 1.0)}
            verdicts.append(check_model(path, target, name="cut", gpu=gpu))
            check_model(path, target, name="cut", ranges=ranges)
    except ValueError as error:
        if "name none of its tensors" not in str(error):  # It is told before rules are applied.
            return str(error)
    assert table(verdicts) and to_json(verdicts)
    return None


def test_a_file_that_is_cut_short_is_told(whole, tmp_path):
    path = tmp_path / "cut.tflite"
    for length in [1, 7, 8, 9, *range(20, len(whole) - 10, 97), len(whole) - 10]:
        path.write_bytes(whole[:length])
        told = complaint(path)
        assert told and told.startswith("cut ") and "\n" not in told, (length, told)
    path.write_bytes(whole)
    assert complaint(path) is None


@pytest.mark.parametrize("seed", range(60))
def test_flipped_bytes_are_told_or_do_no_harm(whole, tmp_path, seed):
    path, draw = tmp_path / "cut.tflite", random.Random(seed)
    flipped = bytearray(whole)
    for _ in range(draw.choice([1, 4, 30])):
        flipped[draw.randrange(8, len(flipped))] ^= 1 << draw.randrange(8)
    path.write_bytes(flipped)
    told = complaint(path)
    assert told is None or (told.startswith("cut ") and "\n" not in told)


@pytest.mark.parametrize(
    ("builtin", "inputs"),
    [("GATHER", [0]), ("CONV_2D", [0]), ("BATCH_MATMUL", [-1, -1]), ("SPLIT", [1, -1])],
)
def test_an_operator_without_its_inputs_is_told(whole, builtin, inputs):
    def edit(model):
        graph = model.subgraphs[0]
        for operator, read in zip(
            graph.operators, read_graphs(whole, name="whole")[0].operators, strict=True
        ):
            if read.builtin == builtin:
                operator.inputs = inputs

    with pytest.raises(ValueError, match=r"^model is damaged or cut short \(.*\): copy or export"):
        for target in TARGETS.values():
            check_model(edited(whole, edit), target, name="model")


def test_weights_that_end_beyond_the_file_are_told(whole):
    kernel = normal(3, 3, 16, 16).transpose(3, 0, 1, 2).astype(np.float16).tobytes()
    start = whole.index(kernel) - 4  # Behind the number of its bytes.
    longer = whole[:start] + struct.pack("<I", len(whole)) + whole[start + 4 :]
    with pytest.raises(ValueError, match="model is damaged or cut short"):
        check_model(longer, TARGETS["gpu"], name="model")


def test_a_model_without_subgraphs_is_told(whole):
    def edit(model):
        model.subgraphs = []

    with pytest.raises(ValueError, match="model is damaged or cut short .it has no subgraph"):
        check_model(edited(whole, edit), TARGETS["gpu"], name="model")
