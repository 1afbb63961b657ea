"""Every network of a bundle compiles for the GPU alone and computes there what it should."""

import os

import pytest

from tests.export.models import example_inputs
from tfsnap.export.delegate import check_on_gpu
from tfsnap.export.rules.checker import check_model
from tfsnap.export.rules.report import table
from tfsnap.export.rules.targets import TARGETS
from tfsnap.runtime.bundle import Bundle

# lavapipe compiles the shaders of the four networks for two minutes the first time.
PRECISIONS = [
    pytest.param(False, id="float32"),
    pytest.param(True, id="float16", marks=pytest.mark.large),
]


@pytest.mark.parametrize("half", PRECISIONS)
@pytest.mark.parametrize("component", ["text_encoder", "unet", "decoder", "encoder"])
def test_fp16_components_run_whole_on_the_gpu(bundles, component, half):
    bundle = Bundle.open(bundles["fp16"])
    inputs = example_inputs(bundle.component(component))
    with bundle.model(component) as path:
        report = check_on_gpu(path, inputs, half=half)
    assert report.passed, report
    assert (report.max_error > 1e-5) == half  # What float32 differs by is below 1e-6.


@pytest.mark.large
@pytest.mark.parametrize("half", [False, True], ids=["float32", "float16"])
@pytest.mark.parametrize("component", ["text_encoder", "unet", "decoder", "encoder"])
def test_components_of_full_size_run_whole_on_the_gpu(component, half):
    """For the fp16 bundle that $TFSNAP_FULL_BUNDLE names, such as Stable Diffusion's."""
    path = os.environ.get("TFSNAP_FULL_BUNDLE")
    if path is None:
        pytest.skip("TFSNAP_FULL_BUNDLE does not name an exported bundle of full size")
    bundle = Bundle.open(path)
    if component not in bundle.manifest.components:
        pytest.skip(f"{path} was exported without {component}")
    inputs = example_inputs(bundle.component(component))
    with bundle.model(component) as model:
        verdict = check_model(model, TARGETS["gpu"], name=component)
        assert verdict.passed, table([verdict])
        report = check_on_gpu(model, inputs, half=half, timeout=7200.0)
    assert report.passed, report
