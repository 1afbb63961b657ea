"""Single blocks as TFLite: what latency tables are measured on."""

import numpy as np
import pytest

from tfsnap.bench.timing import time_network
from tfsnap.export.converter import convert
from tfsnap.export.graphs import block_graph
from tfsnap.export.rules.checker import check_model
from tfsnap.export.rules.targets import TARGETS
from tfsnap.models.blocks import Block
from tfsnap.runtime.errors import RequestError
from tfsnap.runtime.interpreter import load

RESNET = Block("resnet", 8, 16, height=4, width=6, skip=8, embedding=12, groups=4)


@pytest.fixture(scope="module")
def graph():
    return block_graph(RESNET)


@pytest.fixture(scope="module")
def model(graph):
    return convert(graph, "fp16").to_bytes()


def test_a_block_converts_to_what_it_computes(graph, model):
    rng = np.random.default_rng(0)
    inputs = {n: rng.standard_normal(s.shape).astype(np.float32) for n, s in graph.inputs.items()}
    found = load(model, name="resnet")(**inputs)["y"]
    assert found.shape == (1, 4, 6, 16)
    np.testing.assert_allclose(found, graph.run(**inputs)["y"], atol=5e-3)


def test_it_is_timed(model):
    timing = time_network(model, name="resnet", threads=1, warmup=2, runs=7)
    assert (timing.warmup, timing.runs) == (2, 7)
    assert 0 < timing.warm_p50_ms <= timing.warm_p90_ms
    assert timing.load_ms > 0 and timing.first_run_ms > 0
    with pytest.raises(RequestError, match="runs is 0"):
        time_network(model, name="resnet", runs=0)


@pytest.mark.parametrize("target", ["gpu", "gpu_classic", "xnnpack"])
def test_attention_of_stable_diffusions_width_keeps_the_rules(tmp_path, target):
    """Its feed-forward layer has 10,240 channels, of which small networks tell nothing."""
    sizes = {"heads": 8, "tokens": 77, "context_width": 768, "groups": 32}
    block = Block("attention", 1280, 1280, height=2, width=2, **sizes)
    convert(block_graph(block), "fp16").save(tmp_path / "block.tflite")
    verdict = check_model(tmp_path / "block.tflite", TARGETS[target], name="attention")
    assert verdict.passed, verdict.findings
