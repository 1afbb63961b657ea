"""LoRA files, against the product written out by hand."""

import json
import math

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from tests.weights.references import save
from tfsnap.weights import convert
from tfsnap.weights.lora import merge_lora
from tfsnap.weights.tensors import WeightFileError, WeightMismatchError

QUERY = "down_blocks.0.attentions.0.transformer_blocks.0.attn1.to_q"
OUT = "down_blocks.0.attentions.0.transformer_blocks.0.attn2.to_out.0"
CONV = "down_blocks.0.resnets.0.conv1"
TEXT = "text_model.encoder.layers.1.self_attn.v_proj"
RANK, ALPHA, SCALE = 3, 6.0, 0.5


def factors(weight, seed=0):
    """Random A and B for a weight in PyTorch's layout."""
    generator = torch.Generator().manual_seed(seed)
    down = torch.randn([RANK, *weight.shape[1:]], generator=generator)
    ones = [1] * (weight.ndim - 2)
    up = torch.randn([weight.shape[0], RANK, *ones], generator=generator)
    return down, up


def kohya(module, down, up, prefix="lora_unet_"):
    name = prefix + module.replace(".", "_")
    matrices = {f"{name}.lora_down.weight": down, f"{name}.lora_up.weight": up}
    return {**matrices, f"{name}.alpha": torch.tensor(ALPHA)}


def peft(module, down, up, prefix="unet."):
    return {f"{prefix}{module}.lora_A.weight": down, f"{prefix}{module}.lora_B.weight": up}


@pytest.fixture(scope="module")
def components(pipeline_folder):
    return convert.read(pipeline_folder, convert.DIFFUSERS)


def weights_of(modules):
    unet = {f"{key}": tensor for key, tensor in modules["unet"].state_dict().items()}
    text = {f"text_model.{k}": t for k, t in modules["text_encoder"].state_dict().items()}
    return {**unet, **text}


def assert_changed(merged, components, modules, changes, factor):
    """The named weights are W + factor B A, all others are what they were."""
    weights, seen = weights_of(modules), set()
    for new, old in zip(merged, components, strict=True):
        for row in old.rows:
            found, before = new.tensors[row.address].read(), old.tensors[row.address].read()
            module = row.diffusers.removesuffix(".weight")
            if module not in changes or row.diffusers not in weights:
                np.testing.assert_array_equal(found, before)
                continue
            down, up = changes[module]
            product = torch.einsum("or,ri->oi", up.flatten(1), down.flatten(1))
            weight = weights[row.diffusers]
            expected = weight + factor * product.reshape(weight.shape)
            np.testing.assert_allclose(row.to_torch(found), expected, rtol=1e-5, atol=1e-5)
            seen.add(module)
    assert seen == set(changes)


@pytest.mark.parametrize("style", ["kohya", "peft", "peft with alpha"])
def test_linear_and_convolution_layers_of_both_networks(style, components, modules, tmp_path):
    weights = weights_of(modules)
    changes = {
        name: factors(weights[f"{name}.weight"], seed)
        for seed, name in enumerate((QUERY, OUT, CONV, TEXT))
    }
    state, metadata = {}, None
    for name, pair in changes.items():
        text = name == TEXT
        if style == "kohya":
            state |= kohya(name, *pair, prefix="lora_te_" if text else "lora_unet_")
        else:
            state |= peft(name, *pair, prefix="text_encoder." if text else "unet.")
    if style == "peft with alpha":
        adapters = {"unet.lora_alpha": ALPHA, "text_encoder.lora_alpha": ALPHA}
        metadata = {"lora_adapter_metadata": json.dumps(adapters)}
    save_file(state, tmp_path / "lora.safetensors", metadata)
    merged = merge_lora(components, tmp_path / "lora.safetensors", SCALE)
    factor = SCALE if style == "peft" else SCALE * ALPHA / RANK
    assert_changed(merged, components, modules, changes, factor)


def own_file_of_peft(folder, changes, config):
    """What PEFT's `save_pretrained` writes; `config` is a part of adapter_config.json."""
    state = {}
    for name, pair in changes.items():
        state |= peft(name, *pair, prefix="base_model.model.")
    save_file(state, folder / "adapter_model.safetensors", {"format": "pt"})
    if config is not None:
        values = {"peft_type": "LORA", "r": RANK, "rank_pattern": {}, "alpha_pattern": {}}
        text = json.dumps({**values, "bias": "none", "use_rslora": False, **config})
        (folder / "adapter_config.json").write_text(text)
    return folder / "adapter_model.safetensors"


@pytest.mark.parametrize(
    ("config", "factor"),
    [
        ({"lora_alpha": ALPHA}, ALPHA / RANK),
        ({"lora_alpha": ALPHA, "use_rslora": True}, ALPHA / RANK**0.5),
        ({"lora_alpha": 16, "alpha_pattern": {"to_q": ALPHA, "conv1": 1}}, ALPHA / RANK),
        ({"lora_alpha": 16, "alpha_pattern": {r"attn\d\.to_.": ALPHA}}, ALPHA / RANK),
        ({"lora_alpha": ALPHA, "r": 8, "rank_pattern": {f"^{QUERY}": RANK}}, ALPHA / RANK),
    ],
)
def test_pefts_own_file_has_its_strength_beside_it(components, modules, tmp_path, config, factor):
    changes = {QUERY: factors(weights_of(modules)[f"{QUERY}.weight"])}
    merged = merge_lora(components, own_file_of_peft(tmp_path, changes, config), SCALE)
    assert_changed(merged, components, modules, changes, SCALE * factor)


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (None, "keeps lora_alpha in adapter_config.json, and there is none beside it"),
        ({}, "adapter_config.json says no lora_alpha"),
        ({"lora_alpha": "16"}, "adapter_config.json is damaged (lora_alpha is '16')"),
        ({"lora_alpha": 1, "alpha_pattern": {"(": 1}}, "'(' is no regular expression"),
        ({"lora_alpha": 1, "r": 8}, f"{QUERY}: its matrices are of rank 3, and its config says 8"),
    ],
)
def test_pefts_own_file_without_its_strength(components, modules, tmp_path, config, message):
    changes = {QUERY: factors(weights_of(modules)[f"{QUERY}.weight"])}
    path = own_file_of_peft(tmp_path, changes, config)
    with pytest.raises((WeightFileError, WeightMismatchError)) as error:
        merge_lora(components, path)
    assert message in str(error.value)


def test_names_of_peft_with_alphas_need_no_config(components, modules, tmp_path):
    changes = {QUERY: factors(weights_of(modules)[f"{QUERY}.weight"])}
    alpha = {f"base_model.model.{QUERY}.alpha": torch.tensor(ALPHA)}
    state = peft(QUERY, *changes[QUERY], prefix="base_model.model.")
    save_file({**state, **alpha}, tmp_path / "lora.safetensors")
    merged = merge_lora(components, tmp_path / "lora.safetensors")
    assert_changed(merged, components, modules, changes, ALPHA / RANK)


def test_an_adapter_of_diffusers_for_one_network_names_none(components, modules, tmp_path):
    """As its `save_lora_adapter` writes it."""
    changes = {QUERY: factors(weights_of(modules)[f"{QUERY}.weight"])}
    header = {"lora_adapter_metadata": json.dumps({"lora_alpha": ALPHA, "r": RANK})}
    save_file(peft(QUERY, *changes[QUERY], prefix=""), tmp_path / "lora.safetensors", header)
    merged = merge_lora(components, tmp_path / "lora.safetensors")
    assert_changed(merged, components, modules, changes, ALPHA / RANK)


def test_early_names_of_diffusers(components, modules, tmp_path):
    weights = weights_of(modules)
    changes = {name: factors(weights[f"{name}.weight"]) for name in (QUERY, OUT)}
    state = {}
    for name, (down, up) in changes.items():
        at, _, projection = name.partition(".to_")
        projection = "to_" + projection.removesuffix(".0")
        state[f"unet.{at}.processor.{projection}_lora.down.weight"] = down
        state[f"unet.{at}.processor.{projection}_lora.up.weight"] = up
    save_file(state, tmp_path / "lora.safetensors")
    merged = merge_lora(components, tmp_path / "lora.safetensors")
    assert_changed(merged, components, modules, changes, 1.0)


def test_a_merged_network_is_written(modules, tmp_path):
    unet = modules["unet"]
    folder = save(tmp_path / "hf", unet=unet)
    down, up = factors(unet.state_dict()[f"{QUERY}.weight"])
    save_file(kohya(QUERY, down, up), tmp_path / "lora.safetensors")
    base = convert.read(folder, convert.DIFFUSERS, ["unet"])
    merged = merge_lora(base, tmp_path / "lora.safetensors", SCALE)
    convert.write(merged, tmp_path / "merged", convert.DIFFUSERS)
    expected = unet.state_dict()[f"{QUERY}.weight"] + SCALE * ALPHA / RANK * up @ down
    (again,) = convert.read(tmp_path / "merged", convert.DIFFUSERS, ["unet"])
    found = again.tensors["down.0.attentions.0.0.self_attention.query.kernel"].read()
    np.testing.assert_allclose(found.T, expected, rtol=1e-5, atol=1e-5)


def test_a_network_that_is_not_converted_is_left_out(components, modules, tmp_path):
    weights = weights_of(modules)
    text = kohya(TEXT, *factors(weights[f"{TEXT}.weight"]), prefix="lora_te_")
    query = factors(weights[f"{QUERY}.weight"])
    save_file({**text, **kohya(QUERY, *query)}, tmp_path / "lora.safetensors")
    unet = components[:1]
    merged = merge_lora(unet, tmp_path / "lora.safetensors")
    assert_changed(merged, unet, modules, {QUERY: query}, ALPHA / RANK)
    save_file(text, tmp_path / "lora.safetensors")
    with pytest.raises(WeightMismatchError, match="changes none of the networks"):
        merge_lora(unet, tmp_path / "lora.safetensors")


def test_everything_that_does_not_fit_is_listed(components, modules, tmp_path):
    down, up = factors(weights_of(modules)[f"{QUERY}.weight"])
    state = {
        **kohya("down_blocks.7.nothing", down, up),
        **kohya(OUT, down[:, :5].contiguous(), up),
        "lora_unet_conv_in.hada_w1_a": torch.ones(2),
        "unet.conv_out.lora_A.weight": down,
    }
    state = {key: tensor.clone() for key, tensor in state.items()}
    save_file(state, tmp_path / "lora.safetensors")
    with pytest.raises(WeightMismatchError) as error:
        merge_lora(components, tmp_path / "lora.safetensors")
    message = str(error.value)
    assert "no weight is called lora_unet_down_blocks_7_nothing" in message
    assert f"mis-shaped: {OUT}.weight ([32, 3] x [3, 5] for [32, 32])" in message
    assert "hada_w1_a is none of a LoRA's matrices" in message
    assert "unet.conv_out has no up matrix" in message


@pytest.mark.parametrize(
    ("values", "scale", "message"),
    [
        ({"down": [0, 32], "up": [32, 0]}, 1.0, " has no matrices, but [32, 0] and [0, 32]"),
        ({"down": [], "up": [32, 2]}, 1.0, " has no matrices, but [32, 2] and []"),
        ({"down": [2, 32], "up": [32, 2], "alpha": [0]}, 1.0, ": scale * alpha / r is 1 * nan / 2"),
        ({"down": [2, 32], "up": [32, 2]}, math.inf, ": scale * alpha / r is inf * 2 / 2"),
    ],
)
def test_a_product_that_is_no_number_is_refused(components, tmp_path, values, scale, message):
    name = f"lora_unet_{QUERY.replace('.', '_')}"
    endings = {"down": "lora_down.weight", "up": "lora_up.weight", "alpha": "alpha"}
    state = {f"{name}.{endings[kind]}": torch.ones(shape) for kind, shape in values.items()}
    save_file(state, tmp_path / "lora.safetensors")
    with pytest.raises(WeightMismatchError) as error:
        merge_lora(components, tmp_path / "lora.safetensors", scale)
    assert f"{name}{message}" in str(error.value)


def test_a_sum_that_half_precision_cannot_hold_is_refused(pipeline_folder, modules, tmp_path):
    convert.write(
        convert.read(pipeline_folder, convert.DIFFUSERS, ["unet"]),
        tmp_path / "half",
        convert.TFSNAP,
        dtype="float16",
    )
    halves = convert.read(tmp_path / "half", convert.TFSNAP, ["unet"])
    save_file(
        kohya(QUERY, *factors(weights_of(modules)[f"{QUERY}.weight"])), tmp_path / "l.safetensors"
    )
    merged = merge_lora(halves, tmp_path / "l.safetensors", 1e6)
    message = rf"{QUERY}.weight reaches .*, more than float16 can hold; use a smaller scale"
    with pytest.raises(WeightMismatchError, match=message):
        convert.write(merged, tmp_path / "out", convert.TFSNAP)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("down", "up"), [(math.nan, 1.0), (1.0, math.inf), (math.inf, 0.0), (1e30, 1e30)]
)
def test_a_product_that_is_not_finite_is_refused(components, modules, tmp_path, down, up):
    pair = factors(weights_of(modules)[f"{QUERY}.weight"])
    pair[0][0, 0], pair[1][0, 0] = down, up
    save_file(kohya(QUERY, *pair), tmp_path / "lora.safetensors")
    merged = merge_lora(components, tmp_path / "lora.safetensors")
    with pytest.raises(WeightMismatchError, match=f"what the LoRA adds to {QUERY}.weight is not"):
        convert.write(merged, tmp_path / "out", convert.TFSNAP)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    "damaged",
    ["{", "[1]", "null", '{"unet.lora_alpha": "8"}', '{"unet.alpha_pattern": [1]}'],
)
def test_a_damaged_description_is_named(components, modules, tmp_path, damaged):
    state = kohya(QUERY, *factors(weights_of(modules)[f"{QUERY}.weight"]))
    save_file(state, tmp_path / "lora.safetensors", {"lora_adapter_metadata": damaged})
    with pytest.raises(WeightFileError, match="its lora_adapter_metadata is damaged"):
        merge_lora(components, tmp_path / "lora.safetensors")
