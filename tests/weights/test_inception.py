"""Inception computes what torch-fidelity's does, from the same file."""

import importlib.util
import sys
import types

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from tfsnap.weights.from_pytorch_fid import load_inception
from tfsnap.weights.tensors import WeightFileError, WeightMismatchError


@pytest.fixture(scope="module")
def reference():
    """The network with random weights; of its package nothing else, which needs torchvision."""
    spec = importlib.util.find_spec("torch_fidelity")
    if spec is None:
        pytest.skip("torch-fidelity is not installed; `make venv` does, without torchvision")
    package = types.ModuleType("torch_fidelity")
    package.__path__ = list(spec.submodule_search_locations)
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(sys.modules, "torch_fidelity", package)
        module = importlib.import_module("torch_fidelity.feature_extractor_inceptionv3")
        patch.setattr(module, "load_state_dict_from_url", lambda *a, **k: None)
        patch.setattr(module.FeatureExtractorInceptionV3, "load_state_dict", lambda *a: None)
        network = module.FeatureExtractorInceptionV3("inception", ["2048"])
        patch.undo()
    torch.manual_seed(0)
    for name, tensor in network.state_dict().items():
        if name.endswith("conv.weight"):
            fan = tensor[0].numel()
            tensor.copy_(torch.randn_like(tensor) * (2 / fan) ** 0.5)
        elif name.endswith("running_var"):
            tensor.copy_(0.5 + torch.rand_like(tensor))
        elif tensor.is_floating_point():
            tensor.copy_(("weight" in name) + 0.2 * torch.randn_like(tensor))
    return network.eval()


@pytest.fixture(scope="module")
def files(reference, tmp_path_factory):
    folder = tmp_path_factory.mktemp("inception")
    torch.save(reference.state_dict(), folder / "weights.pth")
    save_file(reference.state_dict(), folder / "weights.safetensors")
    return folder


@pytest.mark.parametrize(("name", "size"), [("pth", (32, 32)), ("safetensors", (310, 256))])
def test_features_are_those_of_torch_fidelity(reference, files, name, size):
    """Smaller pictures and larger ones."""
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, [2, *size, 3], dtype=np.uint8)
    with torch.no_grad():
        (expected,) = reference(torch.from_numpy(images).permute(0, 3, 1, 2))
    found = load_inception(files / f"weights.{name}")(images.astype(np.float32)).numpy()
    assert found.shape == (2, 2048)
    assert np.abs(found - expected.numpy()).max() <= 1e-4 * np.ptp(expected.numpy())


def test_another_network_is_told(files, reference, tmp_path):
    state = {
        name: value for name, value in reference.state_dict().items() if "Mixed_6c" not in name
    }
    state["Conv2d_1a_3x3.conv.weight"] = torch.zeros(32, 3, 5, 5)
    save_file(state, tmp_path / "other.safetensors")
    with pytest.raises(WeightMismatchError, match="is not the Inception of the FID") as caught:
        load_inception(tmp_path / "other.safetensors")
    assert "Mixed_6c" in str(caught.value) and "Conv2d_1a_3x3" in str(caught.value)
    with pytest.raises(WeightFileError, match="no such weight file"):
        load_inception(tmp_path / "nothing.pth")
