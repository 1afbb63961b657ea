"""The tiny decoder on phones: delegate-safe, and in float16 what it is in Keras."""

import numpy as np
import pytest
import tensorflow as tf

from tfsnap.config import AutoencoderConfig, TinyDecoderConfig
from tfsnap.export.converter import convert
from tfsnap.export.delegate import check_on_gpu
from tfsnap.export.graphs import decoder_graph
from tfsnap.export.parity import psnr_db
from tfsnap.models.autoencoder import build_autoencoder
from tfsnap.runtime.interpreter import load

CONFIG = AutoencoderConfig(
    channels=(16, 32),
    groups=8,
    resnets=1,
    scale=0.8,
    tiny_decoder=TinyDecoderConfig(channels=(12, 16), blocks=(1, 2)),
)


@pytest.fixture(scope="module")
def exported():
    """The graph, its flatbuffer, and a latent."""
    model = build_autoencoder(CONFIG)
    rng = np.random.default_rng(0)
    for variable in model.decoder.variables:
        variable.assign_add(0.05 * rng.standard_normal(variable.shape))
    graph = decoder_graph(model, latent=(8, 12))
    latent = rng.standard_normal([1, 8, 12, 4]).astype(np.float32)
    return graph, convert(graph, "fp16").to_bytes(), latent


def test_float16_is_keras(exported):
    graph, model, latent = exported
    expected = graph.run(latent=latent)["image"]
    found = load(model, name="decoder")(latent=latent)["image"]
    assert found.shape == (1, 16, 24, 3)
    assert psnr_db(expected, found) > 50.0
    assert psnr_db(expected, graph.run(latent=latent[:, ::-1])["image"]) < 40.0


def test_the_graph_is_delegate_safe(exported):
    interpreter = tf.lite.Interpreter(
        model_content=exported[1],
        experimental_op_resolver_type=tf.lite.experimental.OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES,
    )
    operators = {op["op_name"] for op in interpreter._get_ops_details()}
    convolutions = {"CONV_2D", "DEPTHWISE_CONV_2D", "RESIZE_NEAREST_NEIGHBOR"}
    assert operators == {*convolutions, "ADD", "TANH", "DEQUANTIZE"}  # Scales are in the kernels.
    assert max(len(t["shape"]) for t in interpreter.get_tensor_details()) == 4


def test_it_runs_whole_on_the_gpu(exported, tmp_path):
    path = tmp_path / "decoder.tflite"
    path.write_bytes(exported[1])
    report = check_on_gpu(path, {"latent": exported[2]})
    assert report.passed, report
