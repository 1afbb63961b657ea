import numpy as np
import pytest
import tensorflow as tf

from tfsnap.export.converter import convert
from tfsnap.export.graphs import Graph
from tfsnap.runtime.interpreter import load
from tfsnap.weights.store import in_memory


@pytest.fixture(scope="module")
def lookup():
    """Looks tokens up in a table of 500 rows and mixes them with a matrix."""
    rng = np.random.default_rng(0)
    table = tf.Variable(rng.standard_normal([500, 16]).astype(np.float32), name="lookup/table")
    matrix = tf.Variable(rng.standard_normal([16, 32]).astype(np.float32), name="lookup/matrix")

    @tf.function
    def function(tokens):
        rows = tf.gather(table[tf.newaxis], tf.reshape(tokens, [-1]), axis=1)
        return {"y": tf.matmul(rows, matrix[tf.newaxis])}

    variables = [table, matrix]
    inputs = {"tokens": tf.TensorSpec([1, 6], tf.int32)}
    return Graph("lookup", function, inputs, variables, in_memory(variables))


def operators(model):
    interpreter = tf.lite.Interpreter(
        model_content=model,
        experimental_op_resolver_type=tf.lite.experimental.OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES,
    )
    interpreter.allocate_tensors()
    types = {tensor["index"]: tensor["dtype"] for tensor in interpreter.get_tensor_details()}
    return {op["op_name"]: types[op["inputs"][0]] for op in interpreter._get_ops_details()}


def test_gathered_tables_are_float32_and_the_rest_float16(lookup):
    model = convert(lookup, "fp16").to_bytes()
    found = operators(model)
    assert found["GATHER"] == np.float32
    assert found["DEQUANTIZE"] == np.float16
    tokens = np.array([[0, 499, 3, 3, 250, 7]], np.int32)
    network = load(model, name="lookup")
    expected = lookup.run(tokens=tokens)["y"]
    np.testing.assert_allclose(network(tokens=tokens)["y"], expected, atol=2e-2)
    assert network.inputs[0].name == "tokens"


def test_unknown_precisions_are_refused(lookup):
    with pytest.raises(ValueError, match="'int4'; it must be one of fp16, int8, int8_weights"):
        convert(lookup, "int4")
