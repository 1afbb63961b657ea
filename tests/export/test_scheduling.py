"""The order of operators: one that runs, needs less memory, and changes nothing."""

import numpy as np
import pytest
import tensorflow as tf
import tf_keras as keras

from tfsnap.export.converter import convert
from tfsnap.export.graphs import Graph
from tfsnap.export.scheduling import most_alive, schedule
from tfsnap.export.tflite_graph import TFLiteGraph
from tfsnap.layers import attention
from tfsnap.runtime.interpreter import load
from tfsnap.weights.store import in_memory

PLACES, HEADS, PARTS = 48, 2, 6


@pytest.fixture(scope="module")
def graph():
    """An attention that takes its queries in parts."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(attention, "MOST_SCORES", HEADS * PLACES * PLACES // PARTS)
        keras.utils.set_random_seed(0)
        layer = attention.Attention(4, HEADS, name="attention")
        layer(tf.zeros([1, PLACES, 4]))
        function = tf.function(lambda x: {"y": layer(x)})
        inputs = {"x": tf.TensorSpec([1, PLACES, 4], tf.float32, name="x")}
        made = Graph("attention", function, inputs, layer.variables, in_memory(layer.variables))
        made.concrete()
        yield made


def breadth_first(graph):
    """In the order of the longest way from the inputs, as the converter orders operators."""
    depth = {}
    for op in graph.operators:
        makers = filter(None, map(graph.maker, op.inputs))
        depth[op] = 1 + max((depth[maker] for maker in makers), default=0)
    return sorted(graph.operators, key=depth.get)


def test_parts_of_an_attention_run_one_after_another(graph):
    parsed = TFLiteGraph.parse(convert(graph, "int8").to_bytes())
    names = [op.name for op in parsed.operators]
    products = [name for name in names if name in ("BATCH_MATMUL", "SOFTMAX")]
    assert products == ["BATCH_MATMUL", "SOFTMAX", "BATCH_MATMUL"] * PARTS

    parsed.operators = breadth_first(parsed)
    before = most_alive(parsed, parsed.operators)
    schedule(parsed)
    assert most_alive(parsed, parsed.operators) < before / 2


def test_numbers_alive_at_a_time(graph):
    parsed = TFLiteGraph.parse(convert(graph, "int8").to_bytes())
    part = HEADS * PLACES * PLACES // PARTS
    small = 6 * PLACES * 4  # Queries, keys, values and what is mixed.
    assert 2 * part <= most_alive(parsed, parsed.operators) <= 2 * part + small
    assert most_alive(parsed, breadth_first(parsed)) > PARTS * part


def test_what_runs_is_what_it_was(graph):
    x = np.random.default_rng(0).standard_normal([1, PLACES, 4]).astype(np.float32)
    network = load(convert(graph, "fp16").to_bytes(), name="attention")
    np.testing.assert_allclose(network(x=x)["y"], graph.run(x=x)["y"], atol=2e-3)


def test_an_order_that_needs_no_less_stays(graph):
    parsed = TFLiteGraph.parse(convert(graph, "int8").to_bytes())
    order = list(parsed.operators)
    schedule(parsed)
    assert parsed.operators == order
