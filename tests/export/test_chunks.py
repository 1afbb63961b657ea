"""Chunks of a UNet give what the whole gives, to the bit, in both interpreters and on the GPU."""

import numpy as np
import pytest

from tests.runtime.processes import INTERPRETERS, run_code
from tfsnap.export.chunks import split
from tfsnap.export.component_files import component_files
from tfsnap.export.converter import convert
from tfsnap.export.delegate import check_on_gpu
from tfsnap.export.flatbuffer import LIMIT, ConvertedModel
from tfsnap.export.graphs import unet_graph
from tfsnap.runtime.chunked import ChunkedNetwork
from tfsnap.runtime.interpreter import load
from tfsnap.weights.lazy import LazyTensor

COUNT = 3


@pytest.fixture(scope="module")
def unets(latent_diffusion):
    """A converted UNet by precision."""
    graph = unet_graph(latent_diffusion.unet, latent=(8, 12), tokens=12)
    return {precision: convert(graph, precision) for precision in ("fp16", "int8")}


@pytest.fixture(scope="module")
def chunked(unets, session_dir):
    """By precision, a folder with a UNet as `whole.tflite` and in chunks `0.tflite` ..."""
    folders = {}
    for precision, whole in unets.items():
        folder = folders[precision] = session_dir / f"chunks-{precision}"
        folder.mkdir()
        whole.save(folder / "whole.tflite")
        for i, part in enumerate(component_files({"serving_default": whole}, chunks=COUNT)):
            part.save(folder / f"{i}.tflite")
    return folders


COMPARE = """
import functools, json, pathlib, sys
import numpy as np
from tfsnap.runtime.chunked import ChunkedNetwork
from tfsnap.runtime.interpreter import load
from tfsnap.weights.lazy import LazyTensor

folder, count = pathlib.Path(sys.argv[1]), int(sys.argv[2])
whole = load(folder / "whole.tflite", name="whole")
loaders = [
    functools.partial(load, folder / f"{i}.tflite", name=f"chunk {i}") for i in range(count)
]
rng = np.random.default_rng(0)
arrays = {t.name: rng.standard_normal(t.shape).astype(t.dtype) for t in whole.inputs}
wanted = whole(**arrays)["prediction"]
equal = []
for one_at_a_time in (False, True):
    network = ChunkedNetwork(loaders, outputs=["prediction"], one_at_a_time=one_at_a_time)
    assert set(network.inputs) == set(whole.inputs) and network.outputs == whole.outputs
    equal += [bool((network(**arrays)["prediction"] == wanted).all()) for _ in range(2)]
print(json.dumps([equal, float(np.ptp(wanted)), whole.backend.name]))
"""


@pytest.mark.parametrize("interpreter", INTERPRETERS)
@pytest.mark.parametrize("precision", ["fp16", "int8"])
def test_chunks_give_the_bits_of_the_whole(chunked, precision, interpreter):
    equal, spread, name = run_code(COMPARE, chunked[precision], COUNT, interpreter=interpreter)
    assert (equal, name) == ([True] * 4, interpreter)
    assert spread > 0.1


def test_weights_are_shared_out_once_and_about_equally(chunked):
    for folder in chunked.values():
        sizes = [(folder / f"{i}.tflite").stat().st_size for i in range(COUNT)]
        whole = (folder / "whole.tflite").stat().st_size
        assert 0.9 * whole < sum(sizes) < 1.2 * whole
        assert max(sizes) < 1.3 * sum(sizes) / COUNT


def test_few_tensors_pass(chunked):
    network = load(chunked["fp16"] / f"{COUNT - 1}.tflite", name="last")
    passed = [tensor.name for tensor in network.inputs if tensor.name.startswith("passed_")]
    assert 1 <= len(passed) <= 6  # The path itself, three skips, the time and the context.


def test_every_chunk_runs_whole_on_the_gpu(chunked):
    rng = np.random.default_rng(0)
    for i in range(COUNT):
        path = chunked["fp16"] / f"{i}.tflite"
        inputs = load(path, name="chunk").inputs
        arrays = {t.name: rng.standard_normal(t.shape).astype(t.dtype) for t in inputs}
        report = check_on_gpu(path, arrays)
        assert report.passed, report


@pytest.mark.parametrize("count", [0, 10_000])
def test_a_number_of_chunks_that_cannot_be(unets, count):
    with pytest.raises(ValueError, match=rf"chunks is {count}; this network can be split in 1 to"):
        split(unets["fp16"], count)


def test_as_many_chunks_as_there_are_operators(unets):
    """The hardest cuts: every tensor of the network passes at one of them."""
    whole = unets["fp16"]
    count = 60
    parts = component_files({"serving_default": whole}, chunks=count)
    loaders = [lambda part=part: load(part.to_bytes(), name="part") for part in parts]
    network = ChunkedNetwork(loaders, outputs=["prediction"], one_at_a_time=False)
    rng = np.random.default_rng(1)
    arrays = {t.name: rng.standard_normal(t.shape).astype(t.dtype) for t in network.inputs}
    wanted = load(whole.to_bytes(), name="whole")(**arrays)["prediction"]
    np.testing.assert_array_equal(network(**arrays)["prediction"], wanted)


def test_chunks_of_what_no_single_file_holds(unets):
    """None of the weights is read: chunks are planned by the sizes that they announce."""
    unet = unets["fp16"]
    times = 1.5 * LIMIT / unet.bytes
    huge = {
        number: LazyTensor((int(value.bytes * times),), np.dtype(np.int8), pytest.fail)
        for number, value in unet.data.items()
    }
    whole = ConvertedModel("unet", unet.model, huge)
    with pytest.raises(ValueError, match=r"unet takes 2\.\d+ GB .* split a UNet with --chunks"):
        whole.to_bytes()
    parts = component_files({"serving_default": whole}, chunks=COUNT)
    assert sum(part.bytes for part in parts) > LIMIT
    assert max(part.bytes for part in parts) < LIMIT
