import dataclasses

import numpy as np
import pytest
import tensorflow as tf

from tests.export.models import example_inputs
from tfsnap.export.converter import convert
from tfsnap.export.folding import UnsupportedGraphError
from tfsnap.export.graphs import Graph, component_graphs
from tfsnap.export.skeleton import skeleton_of
from tfsnap.runtime.interpreter import load
from tfsnap.weights.archive import describe, open_trained
from tfsnap.weights.store import in_memory, save_weights


def graph_of(function, **arrays):
    """A graph of one input x, float [1, 4], and variables w and so on."""
    variables = [tf.Variable(value, name=f"layer/{name}") for name, value in arrays.items()]
    inputs = {"x": tf.TensorSpec([1, 4], tf.float32, name="x")}
    traced = tf.function(lambda x: {"y": function(x, *variables)})
    return Graph("graph", traced, inputs, variables, in_memory(variables))


@pytest.mark.parametrize("name", ["text_encoder", "unet", "decoder", "encoder"])
def test_it_computes_what_keras_does(latent_diffusion, name):
    graph = component_graphs(latent_diffusion)[name]
    inputs = example_inputs(graph.inputs.values())
    found, wanted = skeleton_of(graph).loaded()(**inputs), graph.run(**inputs)
    assert found.keys() == wanted.keys()
    for key, array in wanted.items():
        np.testing.assert_allclose(found[key], array, atol=1e-5 * np.ptp(array))


def test_a_network_on_disk_converts_to_the_same_file(latent_diffusion, tmp_path):
    unet = latent_diffusion.unet
    path = tmp_path / "unet.safetensors"
    save_weights(path, unet.variables, metadata=describe(unet))
    opened = open_trained(path, "unet")
    assert not any(variable.is_initialized() for variable in opened.model.variables)
    from_disk = component_graphs(
        dataclasses.replace(latent_diffusion, unet=opened.model),
        opened.values,
    )["unet"]
    in_memory_ = component_graphs(latent_diffusion)["unet"]
    inputs = {
        name: np.random.default_rng(1).standard_normal(spec.shape).astype(np.float32)
        for name, spec in in_memory_.inputs.items()
    }
    models = [convert(graph, "int8") for graph in (from_disk, in_memory_)]
    assert models[0].bytes == pytest.approx(models[1].bytes, rel=0.01)  # Names of tensors differ.
    found, wanted = (load(m.to_bytes(), name="unet")(**inputs)["prediction"] for m in models)
    np.testing.assert_array_equal(found, wanted)


def test_weights_are_not_read_before_the_model_is_written(latent_diffusion):
    graph = component_graphs(latent_diffusion)["decoder"]
    unread = {
        key: value.map(value.shape, lambda array: pytest.fail("a weight was read"))
        for key, value in graph.values.items()
    }
    untouched = Graph(graph.name, graph.function, graph.inputs, graph.variables, unread)
    convert(untouched, "fp16")


def test_a_variable_that_is_not_read_as_a_whole():
    table = np.ones([8, 4], np.float32)
    graph = graph_of(lambda x, w: x + tf.nn.embedding_lookup(w, [3]), w=table)
    with pytest.raises(ValueError, match=r"ResourceGather takes the variable layer.w itself"):
        convert(graph, "fp16")


@pytest.mark.parametrize(
    ("function", "told"),
    [
        (lambda x, w: x * tf.exp(w), r"EXP of weights alone, .*, cannot be exported"),
        (lambda x, w: x * w[1:2], r"is a part of a weight, which cannot be exported"),
        (
            lambda x, w: tf.linalg.diag_part(tf.linalg.inv(x[0] * w)),
            r"TFLite lacks .*MatrixInverse; compute it",
        ),
    ],
)
def test_what_cannot_be_exported_is_one_line(function, told):
    graph = graph_of(function, w=np.ones([4, 4], np.float32))
    with pytest.raises(UnsupportedGraphError, match=told) as caught:
        convert(graph, "fp16")
    assert "\n" not in str(caught.value)
