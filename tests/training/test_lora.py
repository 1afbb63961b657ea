"""Low-rank adaptations: what they change, what they are called, and who else reads them."""

import dataclasses

import numpy as np
import pytest
import tensorflow as tf
import torch
from diffusers import UNet2DConditionModel
from diffusers.loaders import StableDiffusionLoraLoaderMixin

from tests.small_unet import CONFIG, randomised_unet
from tests.training.tiny_job import TRAINING, TinyJob, shared_strategy
from tests.weights.references import (
    make_unet,
    nchw,
    nhwc,
    ours,
    relative_error,
    save,
    unet_error,
    unet_inputs,
    with_tanh_gelu,
)
from tfsnap.training.jobs import UNetJob
from tfsnap.training.lora import LoraConfig, LoraUNet, merge
from tfsnap.training.trainer import Trainer
from tfsnap.weights import convert
from tfsnap.weights.archive import describe, load_trained
from tfsnap.weights.lora import merge_lora
from tfsnap.weights.store import addressed, load_tensors

LORA = LoraConfig(rank=3, alpha=6.0)
QUERY = "unet.down_blocks.0.attentions.0.transformer_blocks.0.attn1.to_q"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A small UNet of diffusers, and the same in tfsnap's layout."""
    root = tmp_path_factory.mktemp("lora")
    torch.manual_seed(0)  # For the biases, which start as PyTorch draws them.
    folder = save(root / "hf", unet=with_tanh_gelu(make_unet()))
    ours(folder, "unet")
    return root


def base(folder):
    return load_trained(folder / "hf-unet-tfsnap" / "unet.safetensors", "unet").model


@dataclasses.dataclass(frozen=True)
class LoraJob(TinyJob):
    """Adapts a UNet to random latents and contexts."""

    path: str = ""

    def build(self):
        model = load_trained(self.path, "unet").model
        _, objective = super().build()
        return LoraUNet(model, LORA), dataclasses.replace(objective, text_encoder=context_of)

    def describe(self, model):
        return describe(model, **model.about())


def context_of(tokens):
    """[B, T] to [B, T, 24], in place of a text encoder."""
    return tf.sin(tf.cast(tokens, tf.float32)[..., None] * tf.range(1.0, 25.0))


def trained(folder, workdir, **changes):
    path = str(folder / "hf-unet-tfsnap" / "unet.safetensors")
    job = LoraJob(training=TRAINING.replace(**changes), path=path)
    trainer = Trainer(job, workdir=workdir, strategy=shared_strategy("one"))
    return trainer, trainer.fit()


@pytest.fixture(scope="module")
def finished(folder):
    return trained(folder, folder / "run")[1]


def output_of(model):
    inputs = unet_inputs(model.config, 12, 8)
    latent = inputs.pop("latent")
    return model(latent, **inputs).numpy()


def test_at_first_it_is_the_network(folder):
    expected = output_of(base(folder))
    adapted = LoraUNet(base(folder), LORA)
    np.testing.assert_array_equal(output_of(adapted), expected)
    names = addressed(adapted.variables)
    assert names[f"{QUERY}.lora_A.weight"].shape == [3, 32]
    assert names[f"{QUERY}.lora_B.weight"].shape == [32, 3]
    assert {name.rsplit(".", 2)[1] for name in names} == {"lora_A", "lora_B"}
    assert len(names) == 2 * 8 * 4  # Eight projections of each of four transformers.
    spread = names[f"{QUERY}.lora_A.weight"].numpy()
    assert 0.8 * 32**-0.5 < np.abs(spread).max() <= 32**-0.5


def test_training_changes_the_factors_alone(folder, finished):
    before = {n: v.numpy() for n, v in addressed(base(folder).variables).items()}
    trainer, _ = trained(folder, folder / "run")  # Finished: only loads.
    after = addressed(trainer.model._base().variables)
    for name, value in before.items():
        np.testing.assert_array_equal(after[name], value)
    tensors, about = load_tensors(finished)
    assert all(np.abs(value).max() > 0 for value in tensors.values())
    adapter = about["lora_adapter_metadata"]
    assert (adapter["unet.r"], adapter["unet.lora_alpha"]) == (3, 6.0)
    modules = adapter["unet.target_modules"]
    assert tensors.keys() == {f"unet.{name}.lora_{x}.weight" for name in modules for x in "AB"}
    saved, _ = load_tensors(folder / "run/checkpoints/step-00000006.safetensors")
    sizes = sum(value.size for value in saved.values())
    assert sizes < 5 * sum(value.size for value in tensors.values())  # Not the network's.


def test_the_file_merges_into_the_network(folder, finished, tmp_path):
    tensors, _ = load_tensors(finished)
    expected = output_of(merge(base(folder), tensors, LORA))
    assert np.abs(expected - output_of(base(folder))).max() > 1e-3
    components = convert.read(folder / "hf", convert.DIFFUSERS, ["unet"])
    convert.write(merge_lora(components, finished), tmp_path / "merged", convert.TFSNAP)
    merged = load_trained(tmp_path / "merged" / "unet.safetensors", "unet").model
    np.testing.assert_allclose(output_of(merged), expected, atol=1e-5)
    adapted = LoraUNet(base(folder), LORA)
    for name, variable in addressed(adapted.variables).items():
        variable.assign(tensors[name])
    np.testing.assert_allclose(output_of(adapted), expected, atol=1e-4)


def test_in_pytorch_it_is_the_same_change(folder, finished):
    """W + alpha / r B A, at the modules of diffusers that the file names."""
    tensors, about = load_tensors(finished)
    loaded = UNet2DConditionModel.from_pretrained(folder / "hf" / "unet")
    reference = with_tanh_gelu(loaded)
    scale = about["lora_adapter_metadata"]["unet.lora_alpha"] / 3
    modules = {name.removesuffix(".lora_A.weight") for name in tensors if "lora_A" in name}
    with torch.no_grad():
        for module in modules:
            weight = reference.get_submodule(module.removeprefix("unet.")).weight
            up, down = (torch.tensor(tensors[f"{module}.lora_{x}.weight"]) for x in "BA")
            weight += scale * (up @ down)
        model = merge(base(folder), tensors, LORA)
        inputs = unet_inputs(model.config, 12, 8)
        times, context = (torch.from_numpy(inputs[k]) for k in ("timesteps", "context"))
        expected = reference(nchw(inputs["latent"]), times, context).sample
    assert relative_error(output_of(model), nhwc(expected)) < 1e-5


def test_diffusers_loads_the_file(folder, finished):
    """With PEFT, which it needs for that."""
    pytest.importorskip("peft", reason="peft is not among the packages that tests install")
    reference = with_tanh_gelu(UNet2DConditionModel.from_pretrained(folder / "hf" / "unet"))
    state, alphas, metadata = StableDiffusionLoraLoaderMixin.lora_state_dict(
        finished.parent, weight_name=finished.name, return_lora_metadata=True
    )
    StableDiffusionLoraLoaderMixin.load_lora_into_unet(
        state, network_alphas=alphas, unet=reference, metadata=metadata
    )
    model = merge(base(folder), load_tensors(finished)[0], LORA)
    assert unet_error(model, reference, 12, 8) < 1e-5


def test_a_run_that_stops_goes_on_to_the_same_factors(folder, finished, tmp_path):
    path = str(folder / "hf-unet-tfsnap" / "unet.safetensors")
    job = LoraJob(training=TRAINING, path=path)
    first = Trainer(job, workdir=tmp_path, strategy=shared_strategy("one"))
    data = first._batches(0)
    for step in range(3):
        first._advance(data, step)
    first.checkpoints.save(3)
    again = Trainer(job, workdir=tmp_path, strategy=shared_strategy("one"))
    found, _ = load_tensors(again.fit())
    for name, value in load_tensors(finished)[0].items():
        np.testing.assert_array_equal(found[name], value)


def test_rematerialised_layers_are_those_of_the_network(folder, tmp_path, finished):
    _, path = trained(folder, tmp_path, rematerialize=("down.*", "mid", "up.*"))
    expected, _ = load_tensors(finished)
    for name, value in load_tensors(path)[0].items():
        # Adam makes much of the smallest gradients: six steps of up to 0.01 may differ a little.
        np.testing.assert_allclose(value, expected[name], atol=1e-3)


def test_layers_that_do_not_exist_are_named():
    with pytest.raises(ValueError, match=r"lora.layers has 'mid.q', which names no linear layer"):
        LoraUNet(randomised_unet(CONFIG), dataclasses.replace(LORA, layers=("mid.q",)))
    with pytest.raises(ValueError, match="rank is -1"):
        LoraConfig(rank=-1)
    with pytest.raises(ValueError, match="lora.rank is 3, but lora.base is empty"):
        UNetJob(lora=LORA).lora_base()
