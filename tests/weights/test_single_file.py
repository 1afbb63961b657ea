"""The original single file, with diffusers' own reader as the judge of our names."""

import numpy as np
import pytest
import torch
from diffusers.loaders import single_file_utils as theirs
from safetensors.torch import save_file

from tests.weights.references import (
    CROSS,
    CROSS_UP,
    PLAIN,
    PLAIN_UP,
    make_text_encoder,
    make_unet,
    make_vae,
)
from tfsnap.weights import convert
from tfsnap.weights.component import CONFIGS, NETWORKS, Component
from tfsnap.weights.diffusers_config import unet_from_json
from tfsnap.weights.lazy import LazyTensor
from tfsnap.weights.names.unet import unet_rows
from tfsnap.weights.open_clip import text_names
from tfsnap.weights.tensors import WeightFileError, WeightMismatchError


def originals(second=False):
    """A model in the one shape that this layout has: 32 groups, 8 heads or heads of 64."""
    heads = dict(
        attention_head_dim=(1, 2), use_linear_projection=True, block_out_channels=(64, 128)
    )
    return {
        "unet": make_unet(
            layers_per_block=2,
            norm_num_groups=32,
            **(heads if second else dict(attention_head_dim=8)),
            down_block_types=(CROSS, PLAIN),
            up_block_types=(PLAIN_UP, CROSS_UP),
        ),
        "vae": make_vae(block_out_channels=(32, 64), norm_num_groups=32, layers_per_block=2),
        "text_encoder": make_text_encoder(
            hidden_size=64,
            intermediate_size=256,
            num_attention_heads=1,
            hidden_act="gelu" if second else "quick_gelu",
        ),
    }


def row_names(modules, name):
    """Diffusers' names and the original ones of the UNet or the autoencoder."""
    if name == "unet":
        return unet_rows(unet_from_json(dict(modules["unet"].config)))
    config = CONFIGS["autoencoder"](
        channels=tuple(modules["vae"].config.block_out_channels),
        resnets=modules["vae"].config.layers_per_block,
    )
    return Component("autoencoder", config, {}, {}).rows


def single_file(modules, second=False):
    """The tensors as the original trainer saved them."""
    state = {"model_ema.decay": torch.tensor(0.9), "betas": torch.ones(10)}
    for name, prefix in (("unet", "model.diffusion_model."), ("vae", "first_stage_model.")):
        tensors = modules[name].state_dict()
        for row in row_names(modules, name):
            tensor = tensors[row.diffusers]
            if ".attn_1." in row.ldm and row.kernel:
                tensor = tensor[:, :, None, None]
            state[prefix + row.ldm] = tensor.contiguous()
    text = modules["text_encoder"].state_dict()
    if second:
        return state | open_clip(text)
    prefix = "cond_stage_model.transformer.text_model."
    state[f"{prefix}embeddings.position_ids"] = torch.arange(9)[None]
    return state | {prefix + key: tensor for key, tensor in text.items()}


def open_clip(text):
    """OpenCLIP's names, with one more block that is not used."""
    named = {
        "positional_embedding": text["embeddings.position_embedding.weight"],
        "token_embedding.weight": text["embeddings.token_embedding.weight"],
        "ln_final.weight": text["final_layer_norm.weight"],
        "ln_final.bias": text["final_layer_norm.bias"],
        "text_projection": torch.zeros(64, 64),
        "logit_scale": torch.tensor(1.0),
    }
    for i in range(3):
        at, hf = f"transformer.resblocks.{i}", f"encoder.layers.{min(i, 1)}"
        for kind in ("weight", "bias"):
            parts = [text[f"{hf}.self_attn.{p}_proj.{kind}"] for p in "qkv"]
            named[f"{at}.attn.in_proj_{kind}"] = torch.cat(parts)
            named[f"{at}.attn.out_proj.{kind}"] = text[f"{hf}.self_attn.out_proj.{kind}"]
            for ours, his in (("ln_1", "layer_norm1"), ("ln_2", "layer_norm2")):
                named[f"{at}.{ours}.{kind}"] = text[f"{hf}.{his}.{kind}"]
            for ours, his in (("c_fc", "fc1"), ("c_proj", "fc2")):
                named[f"{at}.mlp.{ours}.{kind}"] = text[f"{hf}.mlp.{his}.{kind}"]
    return {f"cond_stage_model.model.{key}": t.contiguous().clone() for key, t in named.items()}


@pytest.fixture(scope="module", params=[False, True], ids=["first", "second"])
def case(request):
    modules = originals(request.param)
    return modules, single_file(modules, request.param), request.param


def assert_same(converted, module):
    expected = module.state_dict()
    assert converted.keys() == expected.keys()
    for key, tensor in expected.items():
        assert torch.equal(converted[key].reshape(tensor.shape), tensor), key


def test_diffusers_reads_our_names_of_the_original_layout(case):
    modules, state, second = case
    unet = theirs.convert_ldm_unet_checkpoint(dict(state), dict(modules["unet"].config))
    assert_same(unet, modules["unet"])
    vae = theirs.convert_ldm_vae_checkpoint(dict(state), dict(modules["vae"].config))
    assert_same(vae, modules["vae"])
    if second:
        text = theirs.convert_open_clip_checkpoint(modules["text_encoder"], dict(state))
    else:
        text = theirs.convert_ldm_clip_checkpoint(dict(state))
    unused = ("position_ids", "text_projection", "encoder.layers.2.")
    text = {k: t for k, t in text.items() if not any(part in k for part in unused)}
    text = {key.removeprefix("text_model."): tensor for key, tensor in text.items()}
    assert_same(text, modules["text_encoder"])


@pytest.mark.parametrize("ending", ["safetensors", "ckpt"])
def test_a_single_file_gives_the_networks_that_diffusers_has(case, ending, tmp_path):
    modules, state, second = case
    path = tmp_path / f"model.{ending}"
    if ending == "ckpt":
        torch.save({"state_dict": state, "global_step": 1}, path)
    else:
        save_file(state, path)
    assert convert.detect_format(path) == convert.LDM
    components = convert.read(path, convert.LDM)
    folder = tmp_path / "hf"
    for name, module in modules.items():
        module.save_pretrained(folder / name)
    expected = convert.read(folder, convert.DIFFUSERS)
    for found, wanted in zip(components, expected, strict=True):
        assert found.tensors.keys() == wanted.tensors.keys()
        for key, tensor in wanted.tensors.items():
            np.testing.assert_array_equal(found.tensors[key].read(), tensor.read(), err_msg=key)
    unet, _, text = components
    assert unet.config.replace(heads=8) == expected[0].config.replace(heads=8)
    assert text.config == expected[2].config
    assert unet.about["prediction"] == ("v" if second else "epsilon")
    assert "; --prediction says otherwise" in unet.notes[0]
    assert text.about["pad_token"] == (0 if second else 49407)


@pytest.mark.parametrize("gone", [("text_projection", "logit_scale", "resblocks.2."), ()])
def test_the_second_text_encoder_keeps_every_block_that_is_read(gone, tmp_path):
    """Files that diffusers' and other scripts made from a folder lack the block that is not."""
    modules = originals(second=True)
    state = single_file(modules, second=True)
    kept = {key: t for key, t in state.items() if not any(part in key for part in gone)}
    save_file(kept, tmp_path / "m.safetensors")
    (text,) = convert.read(tmp_path / "m.safetensors", convert.LDM, ["text_encoder"])
    assert text.config.layers == modules["text_encoder"].config.num_hidden_layers == 2


def test_a_tower_without_its_projection_still_ends_with_the_block_that_is_not_read():
    tensor = LazyTensor((4,), np.dtype("float32"), lambda: np.zeros(4, np.float32))
    blocks = {f"model.transformer.resblocks.{i}.ln_1.weight": tensor for i in range(24)}
    assert len(text_names(blocks)) == 23


def test_a_text_encoder_without_a_whole_head_is_refused(tmp_path):
    modules = {**originals(), "text_encoder": make_text_encoder()}
    save_file(single_file(modules), tmp_path / "m.safetensors")
    with pytest.raises(WeightMismatchError, match="text_encoder: it is 24 wide, and heads in this"):
        convert.read(tmp_path / "m.safetensors", convert.LDM, ["text_encoder"])


def test_the_prediction_can_be_said(case, tmp_path):
    save_file(case[1], tmp_path / "m.safetensors")
    options = {"prediction": "epsilon"}
    (unet,) = convert.read(tmp_path / "m.safetensors", convert.LDM, ["unet"], **options)
    assert unet.about["prediction"] == "epsilon" and not unet.notes


def test_missing_networks_and_tensors_are_listed(tmp_path):
    state = single_file(originals())
    path = tmp_path / "m.safetensors"
    kept = {k: t for k, t in state.items() if not k.startswith("cond_stage_model.")}
    del kept["first_stage_model.decoder.conv_in.weight"]
    kept["model.diffusion_model.surplus"] = torch.ones(1)
    save_file(kept, path)
    with pytest.raises(WeightMismatchError) as error:
        convert.read(path, convert.LDM, NETWORKS)
    message = str(error.value)
    assert "text_encoder: the file holds no tensor called cond_stage_model." in message
    assert "autoencoder: 1 missing: decoder.conv_in.weight" in message
    assert "unet: 1 unexpected: surplus" in message
    del kept["model.diffusion_model.input_blocks.0.0.weight"]
    save_file(kept, path)
    with pytest.raises(WeightMismatchError, match="cannot be measured without the missing"):
        convert.read(path, convert.LDM, ["unet"])
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(WeightFileError, match="truncated"):
        convert.read(path, convert.LDM)
