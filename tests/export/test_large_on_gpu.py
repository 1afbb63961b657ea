"""Networks of Stable Diffusion's width and depth run whole, and right, on both software GPUs.

    python -m pytest tests/export/test_large_on_gpu.py --large -s

The UNets need 15 GB of memory, and 2 GB of disk. Latents are small, because a GPU in software has
no time for those of 64 x 64: docs/delegates.md has what that leaves open, and what this prints.
"""

import dataclasses
import resource
import time

import pytest

from tests.export.models import example_inputs
from tfsnap.export.converter import convert
from tfsnap.export.delegate import check_on_gpu
from tfsnap.export.full_size import NETWORKS
from tfsnap.export.graphs import block_graph
from tfsnap.export.rules.checker import check_model
from tfsnap.export.rules.report import table
from tfsnap.export.rules.targets import TARGETS
from tfsnap.models.blocks import blocks_of
from tfsnap.models.presets import UNETS
from tfsnap.weights.random_values import random_values

pytestmark = pytest.mark.large

SIDE = 16  # Of latents.
# In half precision the largest error of this decoder's 49,152 values is 0.020 to 0.026 of the
# range, by the input; the root of their mean square is 0.0034 (the smaller decoder's is 0.0023).
HALF_TOLERANCES = {"decoder:sd15": 0.04}


@pytest.fixture(scope="module", params=NETWORKS)
def exported(request, tmp_path_factory):
    """A network's name, its fp16 file, and inputs."""
    path = tmp_path_factory.mktemp("large") / "model.tflite"
    graph = NETWORKS[request.param].random_graph(SIDE)
    convert(graph, "fp16").save(path)
    yield request.param, path, example_inputs(graph.inputs.values())
    path.unlink()


@pytest.mark.parametrize("half", [False, True], ids=["float32", "float16"])
def test_networks_of_full_width_run_whole_on_the_gpu(exported, half):
    tolerance = HALF_TOLERANCES.get(exported[0]) if half else None
    check(*exported, half=half, tolerance=tolerance)


BLOCKS = blocks_of(UNETS["sd15"], latent=(64, 64), tokens=77)
ATTENTION, RESNET = "up.3.attentions.0.0", "up.3.resnets.0"
MAPS = [(ATTENTION, False), (ATTENTION, True), (RESNET, False)]


@pytest.mark.parametrize(("name", "half"), MAPS)
def test_the_largest_maps_run_whole_on_the_gpu(tmp_path, name, half):
    """Blocks of a UNet for pictures of 512 pixels: attention in parts, and the widest map."""
    graph = block_graph(BLOCKS[name])
    graph = dataclasses.replace(graph, values=random_values(graph.variables))
    convert(graph, "fp16").save(tmp_path / "block.tflite")
    inputs = example_inputs(graph.inputs.values())
    check(f"{name} of 64 x 64", tmp_path / "block.tflite", inputs, half=half)


def check(name, path, inputs, *, half, tolerance=None):
    verdict = check_model(path, TARGETS["gpu"], name=name)
    assert verdict.passed, table([verdict])
    start = time.perf_counter()
    report = check_on_gpu(path, inputs, half=half, tolerance=tolerance, timeout=7200.0)
    seconds = time.perf_counter() - start
    peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * 1024 / 1e9
    precision = "float16" if half else "float32"
    print(f"| {name} | {precision} | {report.max_error:.1e} | {seconds:.0f} | <= {peak:.1f} |")
    assert report.passed, str(report)
