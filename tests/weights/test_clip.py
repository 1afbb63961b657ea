"""CLIP computes what transformers' and OpenCLIP's do, from the files that they are published in."""

import importlib.machinery
import importlib.util
import json
import sys
from unittest import mock

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from transformers import CLIPConfig, CLIPModel
from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil

from tests.weights.references import TOLERANCE, nchw, randomised, relative_error
from tfsnap.config import ClipConfig
from tfsnap.weights import convert
from tfsnap.weights.archive import load_trained
from tfsnap.weights.clip_config import clip_from_open_clip
from tfsnap.weights.tensors import WeightFileError, WeightMismatchError

END = 99  # The last of the vocabulary.
TOKENS = np.array(  # Padded with 0, with the end token, with anything: the end token decides.
    [[98, 3, 4, END, 0, 0, 0], [98, 5, END, END, END, END, END], [98, 7, 8, 9, 10, 11, END]],
    np.int32,
)


def make_clip(*, act="quick_gelu", heads=2, mlp=96, side=12, end=END, **changes):
    """transformers' CLIPModel; heads of the image tower are 24 / `heads` wide."""
    shared = {"hidden_act": act, "num_hidden_layers": 2}
    text = dict(
        hidden_size=16,
        intermediate_size=64,
        num_attention_heads=4,
        vocab_size=100,
        max_position_embeddings=7,
        bos_token_id=98,
        eos_token_id=end,
    )
    vision = dict(
        hidden_size=24,
        intermediate_size=mlp,
        num_attention_heads=heads,
        image_size=side,
        patch_size=4,
    )
    config = CLIPConfig(
        text_config=shared | text, vision_config=shared | vision, projection_dim=10, **changes
    )
    return randomised(CLIPModel(config))


def save_transformers(model, folder, **processor):
    model.save_pretrained(folder)
    side = model.config.vision_config.image_size
    sides = {"size": {"shortest_edge": side}, "crop_size": {"height": side, "width": side}}
    CLIPImageProcessorPil(**sides, **processor).save_pretrained(folder)
    return folder


def converted(source, output, layout):
    assert convert.detect_format(source) == layout
    components = convert.read(source, layout, convert.networks_of(layout))
    convert.write(components, output, convert.TFSNAP)
    return load_trained(output / "clip.safetensors", "clip").model


def normalised(images, config):
    """What the references read, of float pictures in [-1, 1]."""
    return nchw((images / 2 + 0.5 - np.array(config.mean)) / np.array(config.std)).float()


def pictures(side, count=3):
    return np.random.default_rng(0).uniform(-1, 1, [count, side, side, 3]).astype(np.float32)


def assert_equal_to_transformers(clip, model, tokens=TOKENS):
    """Unit vectors of both towers, and the scaled cosines."""
    images = pictures(clip.config.image.resolution)
    with torch.no_grad():
        out = model(
            input_ids=torch.from_numpy(tokens).long(),
            pixel_values=normalised(images, clip.config.image),
        )
    text, image = clip.embed_text(tokens).numpy(), clip.embed_image(images).numpy()
    errors = [relative_error(text, out.text_embeds), relative_error(image, out.image_embeds)]
    scores = np.exp(clip.logit_scale.numpy()) * image @ text.T
    errors.append(relative_error(scores, out.logits_per_image))
    assert_small(errors)


def assert_small(errors):
    print("\ntext, image, score:", *(f"{error:.1e}" for error in errors))
    assert max(errors) <= TOLERANCE


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"act": "gelu", "heads": 3, "mlp": 100, "side": 8},  # The MLP is no multiple of the width.
        {"end": 2},  # As in configs that are older than transformers' fix of it.
    ],
    ids=["as ViT-L", "as ViT-g", "old end token"],
)
def test_transformers(changes, tmp_path):
    model = make_clip(**changes)
    folder = save_transformers(model, tmp_path / "hf", image_mean=[0.4, 0.5, 0.6])
    clip = converted(folder, tmp_path / "out", convert.TRANSFORMERS)
    assert clip.config.image.mean == (0.4, 0.5, 0.6)
    assert_equal_to_transformers(clip, model)


def open_clip_state(model):
    """OpenCLIP's names, as transformers' own conversion script reads them the other way round."""
    theirs = model.state_dict()
    state = {
        "logit_scale": theirs["logit_scale"],
        "text_projection": theirs["text_projection.weight"].T,
        "visual.proj": theirs["visual_projection.weight"].T,
        "visual.class_embedding": theirs["vision_model.embeddings.class_embedding"],
        "visual.conv1.weight": theirs["vision_model.embeddings.patch_embedding.weight"],
        "token_embedding.weight": theirs["text_model.embeddings.token_embedding.weight"],
    }
    norms = {
        "ln_final": "text_model.final_layer_norm",
        "visual.ln_pre": "vision_model.pre_layrnorm",
    }
    norms["visual.ln_post"] = "vision_model.post_layernorm"
    for tower, hf in (("", "text_model"), ("visual.", "vision_model")):
        embedding = f"{hf}.embeddings.position_embedding.weight"
        state[f"{tower}positional_embedding"] = theirs[embedding]
        for i in range(2):
            at, layer = f"{tower}transformer.resblocks.{i}", f"{hf}.encoder.layers.{i}"
            for kind in ("weight", "bias"):
                parts = [theirs[f"{layer}.self_attn.{p}_proj.{kind}"] for p in "qkv"]
                state[f"{at}.attn.in_proj_{kind}"] = torch.cat(parts)
            norms[f"{at}.attn.out_proj"] = f"{layer}.self_attn.out_proj"
            norms |= {f"{at}.ln_{n}": f"{layer}.layer_norm{n}" for n in (1, 2)}
            norms |= {f"{at}.mlp.c_fc": f"{layer}.mlp.fc1", f"{at}.mlp.c_proj": f"{layer}.mlp.fc2"}
    for name, hf in norms.items():
        state |= {f"{name}.{kind}": theirs[f"{hf}.{kind}"] for kind in ("weight", "bias")}
    return {name: tensor.contiguous().clone() for name, tensor in state.items()}


def open_clip_config(**changes):
    model = {
        "embed_dim": 10,
        "vision_cfg": {
            "image_size": 12,
            "layers": 2,
            "width": 24,
            "head_width": 8,
            "mlp_ratio": 4.17,  # int(24 * 4.17) is 100: ratios are rounded down.
            "patch_size": 4,
        },
        "text_cfg": {
            "context_length": 7,
            "vocab_size": 100,
            "width": 16,
            "heads": 4,
            "layers": 2,
        },
    }
    return {"model_cfg": model | changes, "preprocess_cfg": {"mean": [0.5] * 3, "std": [0.25] * 3}}


def save_open_clip(state, folder, config):
    folder.mkdir()
    save_file(state, folder / "open_clip_model.safetensors")
    (folder / "open_clip_config.json").write_text(json.dumps(config))
    return folder


@pytest.mark.parametrize("quick", [False, True])
def test_the_layout_of_open_clip(quick, tmp_path):
    model = make_clip(act="quick_gelu" if quick else "gelu", heads=3, mlp=100)
    config = open_clip_config(**({"quick_gelu": True} if quick else {}))
    folder = save_open_clip(open_clip_state(model), tmp_path / "oc", config)
    clip = converted(folder, tmp_path / "out", convert.OPEN_CLIP)
    assert clip.config.image.std == (0.25, 0.25, 0.25)
    assert_equal_to_transformers(clip, model)


@pytest.fixture
def open_clip_model():
    """OpenCLIP's module for networks, with stand-ins for what it imports and does not use."""
    if importlib.util.find_spec("open_clip") is None:
        pytest.skip("open_clip is not installed; `make venv` does, without torchvision")
    names = ("torchvision", "torchvision.transforms", "torchvision.transforms.functional")
    names = (*names, "torchvision.ops", "torchvision.ops.misc", "ftfy")
    stubs = {name: mock.MagicMock(__path__=[]) for name in names}
    for name, stub in stubs.items():
        stub.__spec__ = importlib.machinery.ModuleSpec(name, None)
    with mock.patch.dict(sys.modules, stubs):
        yield importlib.import_module("open_clip.model")


@pytest.mark.parametrize("quick", [False, True])
def test_open_clip(open_clip_model, quick, tmp_path):
    config = open_clip_config(**({"quick_gelu": True} if quick else {}))
    model = randomised(open_clip_model.CLIP(**config["model_cfg"]))
    folder = save_open_clip(model.state_dict(), tmp_path / "oc", config)
    clip = converted(folder, tmp_path / "out", convert.OPEN_CLIP)
    images = pictures(12)
    with torch.no_grad():
        text = model.encode_text(torch.from_numpy(TOKENS).long(), normalize=True)
        image = model.encode_image(normalised(images, clip.config.image), normalize=True)
    pairs = ((clip.embed_text(TOKENS), text), (clip.embed_image(images), image))
    assert_small([relative_error(*pair) for pair in pairs])


def test_published_configs_of_open_clip_are_measured_as_published():
    """ViT-g/14 of laion2B: heads of 88, an MLP of 6,144."""
    vision = dict(image_size=224, layers=40, width=1408, head_width=88, mlp_ratio=4.3637)
    text = dict(context_length=77, vocab_size=49408, width=1024, heads=16, layers=24)
    model = {"embed_dim": 1024, "vision_cfg": vision | {"patch_size": 14}, "text_cfg": text}
    config = clip_from_open_clip({"model_cfg": model})
    assert (config.image.heads, config.image.mlp_width) == (16, 6144)
    assert config.image.mean == pytest.approx((0.4815, 0.4578, 0.4082), abs=1e-4)
    assert ClipConfig.from_dict(json.loads(json.dumps(config.to_dict()))) == config


def test_everything_that_is_wrong_is_in_one_message(tmp_path):
    model = make_clip()
    state = open_clip_state(model)
    del state["visual.ln_pre.weight"], state["transformer.resblocks.1.attn.in_proj_bias"]
    state["visual.extra"] = torch.zeros(1)
    state["visual.proj"] = torch.zeros(24, 11)
    folder = save_open_clip(state, tmp_path / "oc", open_clip_config())
    with pytest.raises(WeightMismatchError) as error:
        convert.read(folder, convert.OPEN_CLIP, ["clip"])
    message = str(error.value)
    assert "4 missing" in message and "vision_model.pre_layrnorm.weight" in message
    assert "1 unexpected: vision_model.extra" in message
    assert "visual_projection.weight (file [11, 24], network [10, 24])" in message
    assert "mlp.fc1.weight (file [96, 24], network [100, 24])" in message


@pytest.mark.parametrize(
    ("part", "changes", "message"),
    [
        ("vision_cfg", {"no_ln_pre": True}, "vision_cfg.no_ln_pre is True, which cannot be built"),
        ("vision_cfg", {"pool_type": "avg"}, "pool_type is 'avg', only 'tok' can be built"),
        ("text_cfg", {"hf_model_name": "roberta"}, "text_cfg.hf_model_name is 'roberta'"),
        (None, {"resize_mode": "squash"}, "resize_mode is 'squash', only 'shortest'"),
    ],
)
def test_other_networks_of_open_clip_are_refused(part, changes, message, tmp_path):
    config = open_clip_config()
    (config["model_cfg"][part] if part else config["preprocess_cfg"]).update(changes)
    folder = save_open_clip({"logit_scale": torch.ones([])}, tmp_path / "oc", config)
    with pytest.raises(WeightMismatchError, match=message):
        convert.read(folder, convert.OPEN_CLIP, ["clip"])


@pytest.mark.parametrize(
    ("changes", "processor", "message"),
    [
        ({"end": 50}, {}, "eos_token_id is 50, only the last of the vocabulary, 99"),
        ({"act": "relu"}, {}, "activation is 'relu'"),
        ({}, {"resample": 2}, "resample is 2, only 3 can be built"),
    ],
)
def test_other_networks_of_transformers_are_refused(changes, processor, message, tmp_path):
    folder = save_transformers(make_clip(**changes), tmp_path / "hf", **processor)
    with pytest.raises(WeightMismatchError, match=message):
        convert.read(folder, convert.TRANSFORMERS, ["clip"])


def test_layouts_hold_what_they_hold(tmp_path, pipeline_folder):
    folder = save_transformers(make_clip(), tmp_path / "hf")
    with pytest.raises(WeightFileError, match=r"holds clip; unet is asked for"):
        convert.read(folder, convert.TRANSFORMERS, ["unet"])
    with pytest.raises(WeightFileError, match=r"and text_encoder; clip is asked for"):
        convert.read(pipeline_folder, convert.DIFFUSERS, ["clip"])
    components = convert.read(folder, convert.TRANSFORMERS, ["clip"])
    with pytest.raises(WeightMismatchError, match="no place for a CLIP's image tower"):
        convert.write(components, tmp_path / "out", convert.DIFFUSERS)
    (folder / "model.safetensors").unlink()
    with pytest.raises(WeightFileError, match="neither model.safetensors nor shards"):
        convert.read(folder, convert.TRANSFORMERS, ["clip"])


@pytest.mark.large
def test_vit_l_14_at_full_size(tmp_path):
    """428 million parameters, random; the config that OpenAI's is published with."""
    text = dict(hidden_size=768, intermediate_size=3072, num_hidden_layers=12)
    text |= dict(num_attention_heads=12, hidden_act="quick_gelu")
    vision = dict(hidden_size=1024, intermediate_size=4096, num_hidden_layers=24, patch_size=14)
    vision |= dict(num_attention_heads=16, hidden_act="quick_gelu", image_size=224)
    model = randomised(
        CLIPModel(CLIPConfig(text_config=text, vision_config=vision, projection_dim=768))
    )
    folder = save_transformers(model, tmp_path / "hf")
    clip = converted(folder, tmp_path / "out", convert.TRANSFORMERS)
    defaults = ClipConfig()
    assert clip.config.text == defaults.text
    assert clip.config.image == defaults.image.replace(
        mean=clip.config.image.mean, std=clip.config.image.std
    )
    tokens = np.random.default_rng(0).integers(1, 49405, [3, 77]).astype(np.int32)
    tokens[:, 0], tokens[0, 20:], tokens[1, 40], tokens[1, 41:], tokens[2, 76] = (
        *(49406, 49407, 49407),
        *(0, 49407),
    )
    assert_equal_to_transformers(clip, model, tokens)
