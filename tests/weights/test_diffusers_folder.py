"""Diffusers' folders: what is read, what is written, and what is refused."""

import json
import signal
import stat
import subprocess
import sys

import numpy as np
import pytest
import torch
from diffusers import AutoencoderKL, StableDiffusionPipeline, UNet2DConditionModel
from safetensors.torch import load_file, save_file
from transformers import CLIPTextModel, CLIPTokenizer

from tests.weights.references import make_scheduler, make_text_encoder, make_unet, save
from tfsnap.config import ClipConfig, ClipImageConfig, ClipTextConfig, StageConfig, UNetConfig
from tfsnap.models.clip import build_clip, build_text_encoder
from tfsnap.models.unet import build_unet
from tfsnap.tokenizer import END_TOKEN, Tokenizer, read_vocabulary
from tfsnap.weights import convert
from tfsnap.weights.archive import describe, load_trained
from tfsnap.weights.store import save_weights
from tfsnap.weights.tensors import WeightFileError, WeightMismatchError

WEIGHTS = "diffusion_pytorch_model.safetensors"


@pytest.fixture(scope="module")
def tfsnap_folder(pipeline_folder, tmp_path_factory):
    folder = tmp_path_factory.mktemp("converted") / "tfsnap"
    convert.write(convert.read(pipeline_folder, convert.DIFFUSERS), folder, convert.TFSNAP)
    return folder


@pytest.fixture(scope="module")
def written(tfsnap_folder, merges, tmp_path_factory):
    """The pipeline after a trip through our layout."""
    folder = tmp_path_factory.mktemp("written") / "hf"
    components = convert.read(tfsnap_folder, convert.TFSNAP)
    convert.write(components, folder, convert.DIFFUSERS, vocabulary=read_vocabulary(merges))
    return folder


@pytest.mark.parametrize(
    ("name", "kind"),
    [("unet", UNet2DConditionModel), ("vae", AutoencoderKL), ("text_encoder", CLIPTextModel)],
)
def test_a_written_network_is_the_same_and_complete(name, kind, written, modules):
    model, info = kind.from_pretrained(written / name, output_loading_info=True)
    assert not any(info.values()), info
    expected = modules[name].state_dict()
    found = model.state_dict()
    assert found.keys() == expected.keys()
    for key, tensor in expected.items():
        assert torch.equal(found[key], tensor), key


def test_a_written_pipeline_loads_in_silence_and_draws_the_same(written, modules, capfd, caplog):
    pipeline = StableDiffusionPipeline.from_pretrained(written)
    said = "".join(capfd.readouterr()) + caplog.text
    for warning in ("missing", "unexpected", "not used", "newly initialized"):
        assert warning not in said.lower()
    original = StableDiffusionPipeline(
        **modules,
        scheduler=make_scheduler(),
        tokenizer=CLIPTokenizer.from_pretrained(written / "tokenizer"),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )
    pictures = []
    for pipe in (pipeline, original):
        pipe.set_progress_bar_config(disable=True)
        pictures.append(
            pipe(
                "a red apple",
                num_inference_steps=2,
                height=16,
                width=16,
                generator=torch.Generator().manual_seed(0),
                output_type="np",
            ).images
        )
    np.testing.assert_array_equal(*pictures)


def test_the_written_tokenizer_is_ours(written, merges):
    theirs = CLIPTokenizer.from_pretrained(written / "tokenizer")
    texts = ["a red apple, noto style", "It's 42 cafés — naïve!", ""]
    mine = Tokenizer(merges, pad_token=END_TOKEN)(texts)
    found = theirs(texts, padding="max_length", truncation=True, max_length=77).input_ids
    np.testing.assert_array_equal(found, mine)
    assert theirs.model_max_length == 77


@pytest.mark.parametrize(("size", "end"), [(1000, 999), (49408, 49407), (49410, 49407)])
def test_the_end_token_pads_in_a_smaller_or_larger_vocabulary_too(tmp_path, size, end):
    text = make_text_encoder(vocab_size=size, bos_token_id=end - 1, eos_token_id=end)
    folder = save(tmp_path / "hf", text_encoder=text)
    (found,) = convert.read(folder, convert.DIFFUSERS, ["text_encoder"])
    assert found.about["pad_token"] == end


@pytest.mark.parametrize(("about", "pad"), [({}, 0), ({"pad_token": 999}, 999)])
def test_a_trained_text_encoder_keeps_its_padding_in_diffusers(merges, tmp_path, about, pad):
    text = build_text_encoder(ClipTextConfig(vocab_size=1000, width=16, layers=1, heads=2))
    path = tmp_path / "text_encoder.safetensors"
    save_weights(path, text.variables, metadata=describe(text, **about))
    components = convert.read(path, convert.TFSNAP, ["text_encoder"])
    vocabulary = read_vocabulary(merges, 1000)
    convert.write(components, tmp_path / "hf", convert.DIFFUSERS, vocabulary=vocabulary)
    theirs = CLIPTokenizer.from_pretrained(tmp_path / "hf/tokenizer")
    assert theirs("", padding="max_length", max_length=4).input_ids == [998, 999, pad, pad]
    (again,) = convert.read(tmp_path / "hf", convert.DIFFUSERS, ["text_encoder"])
    assert again.about["pad_token"] == pad


def test_a_latent_of_two_sides_gives_a_resolution_of_two(modules, tmp_path):
    folder = save(tmp_path / "hf", unet=modules["unet"], vae=modules["vae"])
    config = folder / "unet" / "config.json"
    values = json.loads(config.read_text())
    cell = 2 ** (len(modules["vae"].config.block_out_channels) - 1)
    for size, resolution in ((8, [8 * cell, 8 * cell]), ([8, 12], [8 * cell, 12 * cell])):
        config.write_text(json.dumps({**values, "sample_size": size}))
        (unet,) = convert.read(folder, convert.DIFFUSERS, ["unet"])
        assert unet.about["resolution"] == resolution


def test_stable_diffusion_2_keeps_its_layout(merges, tmp_path):
    second = {
        "unet": make_unet(attention_head_dim=[2, 4], use_linear_projection=True),
        "text_encoder": make_text_encoder(hidden_act="gelu"),
    }
    folder = save(tmp_path / "hf", scheduler=False, **second)
    make_scheduler(prediction_type="v_prediction").save_pretrained(folder / "scheduler")
    (folder / "tokenizer").mkdir()
    (folder / "tokenizer" / "special_tokens_map.json").write_text('{"pad_token": "!"}')
    components = convert.read(folder, convert.DIFFUSERS, ["unet", "text_encoder"])
    assert components[0].about["prediction"] == "v"
    assert components[0].config.head_width == 16
    convert.write(
        components, tmp_path / "out", convert.DIFFUSERS, vocabulary=read_vocabulary(merges)
    )
    for name, kind in (("unet", UNet2DConditionModel), ("text_encoder", CLIPTextModel)):
        model, info = kind.from_pretrained(tmp_path / "out" / name, output_loading_info=True)
        assert not any(info.values()), info
        for key, tensor in second[name].state_dict().items():
            assert torch.equal(model.state_dict()[key], tensor), key
    assert CLIPTokenizer.from_pretrained(tmp_path / "out" / "tokenizer").pad_token == "!"
    scheduler = json.loads((tmp_path / "out" / "scheduler/scheduler_config.json").read_text())
    assert scheduler["prediction_type"] == "v_prediction"


@pytest.mark.parametrize(("second", "shape"), [(False, {}), (True, {"attention_head_dim": [2, 4]})])
def test_without_a_scheduler_the_shape_says_what_a_unet_predicts(tmp_path, second, shape):
    folder = save(tmp_path / "hf", scheduler=False, unet=make_unet(**shape))
    (unet,) = convert.read(folder, convert.DIFFUSERS, ["unet"])
    presumed, other = ("v", "epsilon") if second else ("epsilon", "v")
    assert unet.about["prediction"] == presumed
    assert unet.notes[0].startswith(f"Nothing says what the UNet predicts: taken to be {presumed}")
    (unet,) = convert.read(folder, convert.DIFFUSERS, ["unet"], prediction=other)
    assert unet.about["prediction"] == other and not unet.notes


def test_a_prediction_that_the_scheduler_denies_is_refused(modules, tmp_path):
    folder = save(tmp_path / "hf", unet=modules["unet"])
    (unet,) = convert.read(folder, convert.DIFFUSERS, ["unet"], prediction="epsilon")
    assert unet.about["prediction"] == "epsilon" and not unet.notes
    convert.write([unet], tmp_path / "ours", convert.TFSNAP)
    for source, layout in ((folder, convert.DIFFUSERS), (tmp_path / "ours", convert.TFSNAP)):
        with pytest.raises(WeightMismatchError, match="its UNet predicts epsilon, and --predicti"):
            convert.read(source, layout, ["unet"], prediction="v")


def test_a_projection_of_the_guidance_scale_goes_in_and_out(tmp_path):
    reference = make_unet(time_cond_proj_dim=16)
    folder = save(tmp_path / "hf", unet=reference)
    components = convert.read(folder, convert.DIFFUSERS, ["unet"])
    assert components[0].config.guidance_width == 16
    convert.write(components, tmp_path / "out", convert.DIFFUSERS)
    model, info = UNet2DConditionModel.from_pretrained(
        tmp_path / "out/unet", output_loading_info=True
    )
    assert not any(info.values()), info
    assert torch.equal(
        model.state_dict()["time_embedding.cond_proj.weight"],
        reference.state_dict()["time_embedding.cond_proj.weight"],
    )


def test_descriptions_carry_what_the_configs_said(tfsnap_folder):
    unet = load_trained(tfsnap_folder / "unet.safetensors", "unet")
    assert unet.about["prediction"] == "epsilon"
    assert unet.about["schedule"]["beta_end"] == 0.012
    assert unet.about["resolution"] == [16, 16]
    text = load_trained(tfsnap_folder / "text_encoder.safetensors", "text_encoder")
    assert text.about == {"pad_token": END_TOKEN}


def test_half_precision_shards_and_old_names(modules, tmp_path):
    folder = save(tmp_path / "hf", vae=modules["vae"])
    tensors = load_file(folder / "vae" / WEIGHTS)
    old_names = {"to_q": "query", "to_k": "key", "to_v": "value", "to_out.0": "proj_attn"}
    for new, old in old_names.items():
        tensors = {k.replace(f".{new}.", f".{old}."): t.half() for k, t in tensors.items()}
    names, half = sorted(tensors), len(tensors) // 2
    shards = {"a.safetensors": names[:half], "b.safetensors": names[half:]}
    (folder / "vae" / WEIGHTS).unlink()
    for shard, keys in shards.items():
        save_file({key: tensors[key] for key in keys}, folder / "vae" / shard)
    index = {"weight_map": {key: shard for shard, keys in shards.items() for key in keys}}
    (folder / "vae" / f"{WEIGHTS}.index.json").write_text(json.dumps(index))
    (component,) = convert.read(folder, convert.DIFFUSERS, ["autoencoder"])
    kernel = component.tensors["encoder.mid.attention.query.kernel"]
    assert kernel.dtype == np.float16
    expected = modules["vae"].state_dict()["encoder.mid_block.attentions.0.to_q.weight"].half()
    np.testing.assert_array_equal(kernel.read(), expected.numpy().T)
    (folder / "vae" / "b.safetensors").unlink()
    with pytest.raises(WeightFileError, match="b.safetensors: no such weight file"):
        convert.read(folder, convert.DIFFUSERS, ["autoencoder"])


def test_bfloat16_and_torch_files_are_read(modules, tmp_path):
    folder = save(tmp_path / "hf", vae=modules["vae"])
    tensors = load_file(folder / "vae" / WEIGHTS)
    (folder / "vae" / WEIGHTS).unlink()
    bfloat16 = {key: tensor.bfloat16() for key, tensor in tensors.items()}
    torch.save(bfloat16, folder / "vae" / "diffusion_pytorch_model.bin")
    (from_torch,) = convert.read(folder, convert.DIFFUSERS, ["autoencoder"])
    save_file(bfloat16, folder / "vae" / WEIGHTS)
    (component,) = convert.read(folder, convert.DIFFUSERS, ["autoencoder"])
    for row in component.rows:
        expected = bfloat16[row.diffusers].float().numpy()
        for source in (component, from_torch):
            found = row.to_torch(source.tensors[row.address].read())
            np.testing.assert_array_equal(found, expected)


def test_everything_wrong_is_listed_at_once_and_nothing_is_written(modules, tmp_path):
    folder = save(tmp_path / "hf", **modules)
    unet, vae = folder / "unet" / WEIGHTS, folder / "vae" / WEIGHTS
    tensors = load_file(unet)
    del tensors["conv_in.bias"]
    tensors["surplus"] = torch.zeros(2)
    tensors["conv_out.bias"] = torch.zeros(7)
    tensors["time_embedding.linear_1.bias"] = tensors["time_embedding.linear_1.bias"].long()
    save_file(tensors, unet)
    tensors = load_file(vae)
    del tensors["quant_conv.weight"]
    save_file(tensors, vae)
    with pytest.raises(WeightMismatchError) as error:
        convert.read(folder, convert.DIFFUSERS)
    for line in (
        "unet: 1 missing: conv_in.bias",
        "unet: 1 unexpected: surplus",
        "unet: 1 mis-shaped: conv_out.bias (file [7], network [4])",
        "unet: 1 not floating-point: time_embedding.linear_1.bias (int64)",
        "autoencoder: 1 missing: quant_conv.weight",
    ):
        assert line in str(error.value)


def test_truncated_files_and_unknown_layers_are_named(modules, tmp_path):
    folder = save(tmp_path / "hf", unet=modules["unet"])
    path, config = folder / "unet" / WEIGHTS, folder / "unet" / "config.json"
    content = path.read_bytes()
    path.write_bytes(content[:-8])
    with pytest.raises(WeightFileError, match="is truncated or damaged"):
        convert.read(folder, convert.DIFFUSERS, ["unet"])
    path.write_bytes(content[:100])
    with pytest.raises(WeightFileError, match="not a complete safetensors file"):
        convert.read(folder, convert.DIFFUSERS, ["unet"])
    path.write_bytes(content)
    values = json.loads(config.read_text())
    config.write_text(json.dumps({**values, "transformer_layers_per_block": 2, "norm_eps": 1e-3}))
    with pytest.raises(WeightMismatchError) as error:
        convert.read(folder, convert.DIFFUSERS, ["unet"])
    assert "transformer_layers_per_block is 2, only 1 can be built" in str(error.value)
    assert "norm_eps is 0.001, only 1e-05 can be built" in str(error.value)
    config.write_text(json.dumps({**values, "attention_head_dim": [0, 0]}))
    with pytest.raises(WeightMismatchError, match="unet/config.json: ZeroDivisionError"):
        convert.read(folder, convert.DIFFUSERS, ["unet"])
    config.write_text(json.dumps(values))
    for where in ([], None, {"a": 5}, {"a": ["b"]}):
        (folder / "unet" / f"{WEIGHTS}.index.json").write_text(json.dumps({"weight_map": where}))
        with pytest.raises(WeightFileError, match=r"index\.json: its weight_map is damaged"):
            convert.read(folder, convert.DIFFUSERS, ["unet"])
    with pytest.raises(WeightFileError, match="vae/config.json: cannot be read"):
        convert.read(folder, convert.DIFFUSERS, ["autoencoder"])


def test_a_value_that_float16_cannot_hold_leaves_nothing_behind(modules, tmp_path):
    unet = make_unet()
    with torch.no_grad():
        unet.conv_in.weight[0] = 1e6
    components = convert.read(save(tmp_path / "hf", unet=unet), convert.DIFFUSERS, ["unet"])
    before = sorted(tmp_path.iterdir())
    with pytest.raises(WeightMismatchError, match=r"conv_in.kernel reaches 1e\+06, more than"):
        convert.write(components, tmp_path / "out", convert.TFSNAP, dtype="float16")
    assert sorted(tmp_path.iterdir()) == before
    with pytest.raises(FileExistsError, match="choose another"):
        convert.write(components, tmp_path / "hf", convert.TFSNAP)


# Is killed at the last tensor.
KILLED = """
import dataclasses, os, pathlib, signal, sys
from tfsnap.weights import convert
source, output = map(pathlib.Path, sys.argv[1:])
(part,) = convert.read(source, convert.TFSNAP, ["text_encoder"])
last = max(part.tensors)
kill = lambda: os.kill(os.getpid(), signal.SIGKILL)
part.tensors[last] = dataclasses.replace(part.tensors[last], read=kill)
convert.write([part], output, convert.TFSNAP)
"""


def test_a_killed_conversion_leaves_nothing_once_it_is_run_again(tfsnap_folder, tmp_path):
    killed = subprocess.run([sys.executable, "-c", KILLED, tfsnap_folder, tmp_path / "out"])
    assert killed.returncode == -signal.SIGKILL
    (left,) = tmp_path.iterdir()
    assert left.is_dir() and left.name.startswith(".out.")
    components = convert.read(tfsnap_folder, convert.TFSNAP, ["text_encoder"])
    convert.write(components, tmp_path / "out", convert.TFSNAP)
    assert [path.name for path in tmp_path.iterdir()] == ["out"]
    assert stat.S_IMODE((tmp_path / "out").stat().st_mode) == 0o755


def test_networks_that_diffusers_cannot_express_are_refused(tmp_path):
    model = build_unet(
        UNetConfig(
            down=(StageConfig(8, 1, 2),),
            mid=StageConfig(8, 1, 0),
            up=(StageConfig(8, 2, (0, 1)),),
            context_width=4,
            heads=2,
            groups=4,
        )
    )
    save_weights(tmp_path / "unet.safetensors", model.variables, metadata=describe(model))
    components = convert.read(tmp_path / "unet.safetensors", convert.TFSNAP, ["unet"])
    with pytest.raises(WeightMismatchError) as error:
        convert.write(components, tmp_path / "out", convert.DIFFUSERS)
    message = str(error.value)
    assert "down.0 has (2,) attentions" in message and "up.0 has (0, 1) attentions" in message
    assert "mid has (0,) attentions; (1, 0) works" in message
    assert not (tmp_path / "out").exists()
    half = tmp_path / "half"
    convert.write(components, half, convert.TFSNAP, dtype="float16")
    load_trained(half / "unet.safetensors", "unet")


def test_formats_are_detected(pipeline_folder, tfsnap_folder, tmp_path):
    assert convert.detect_format(pipeline_folder) == convert.DIFFUSERS
    assert convert.detect_format(tfsnap_folder) == convert.TFSNAP
    assert convert.detect_format(tfsnap_folder / "unet.safetensors") == convert.TFSNAP
    assert convert.detect_format(pipeline_folder / "unet" / WEIGHTS) == convert.LDM
    with pytest.raises(WeightFileError, match="no known layout"):
        convert.detect_format(tmp_path)
    with pytest.raises(WeightFileError, match="no such file or folder"):
        convert.detect_format(tmp_path / "nothing")


def test_the_text_tower_of_clip_is_a_text_encoder(tmp_path):
    towers = ClipConfig(
        text=ClipTextConfig(vocab_size=50, context_length=6, width=16, layers=1, heads=2),
        image=ClipImageConfig(resolution=8, patch=4, width=16, layers=1, heads=2),
        embedding_width=12,
    )
    clip = build_clip(towers)
    save_weights(tmp_path / "clip.safetensors", clip.variables, metadata=describe(clip))
    components = convert.read(tmp_path, convert.TFSNAP, ["text_encoder"])
    convert.write(components, tmp_path / "out", convert.TFSNAP)
    loaded = load_trained(tmp_path / "out" / "text_encoder.safetensors", "text_encoder")
    tokens = np.arange(6, dtype=np.int32)[None]
    np.testing.assert_array_equal(loaded.model(tokens), clip.text_encoder(tokens))
    with pytest.raises(WeightFileError, match="holds clip; unet is asked for"):
        convert.read(tmp_path / "clip.safetensors", convert.TFSNAP, ["unet"])
