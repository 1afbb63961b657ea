"""Every network of a bundle compiles for the GPU alone and computes there what it should."""

import pytest

from tests.export.models import example_inputs
from tfsnap.export.delegate import check_on_gpu
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
    inputs = example_inputs(bundle.component(component).inputs)
    with bundle.model(component) as path:
        report = check_on_gpu(path, inputs, half=half)
    assert report.passed, report
    assert (report.max_error > 1e-5) == half  # What float32 differs by is below 1e-6.
