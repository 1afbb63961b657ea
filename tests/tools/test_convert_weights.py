"""tools/convert_weights.py as a user types it."""

import json
import pathlib
import subprocess
import sys

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from tests.weights.references import make_text_encoder, make_unet, make_vae, save
from tfsnap.models.latent_diffusion import Distilled
from tfsnap.weights import convert
from tfsnap.weights.archive import load_trained
from tfsnap.weights.store import load_tensors

ROOT = pathlib.Path(__file__).parents[2]


def run(*arguments):
    command = [sys.executable, str(ROOT / "tools/convert_weights.py"), *arguments]
    return subprocess.run(command, capture_output=True, text=True)


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    folder = tmp_path_factory.mktemp("checkpoint") / "hf"
    modules = {"unet": make_unet(), "vae": make_vae(), "text_encoder": make_text_encoder()}
    return save(folder, **modules)


def test_all_networks_in_half_precision(checkpoint, tmp_path):
    done = run(f"--input={checkpoint}", f"--output={tmp_path}/out", "--dtype=float16")
    assert done.returncode == 0, done.stderr
    assert "unet" in done.stdout and "parameters" in done.stdout
    for network in ("unet", "autoencoder", "text_encoder"):
        tensors, about = load_tensors(tmp_path / "out" / f"{network}.safetensors")
        assert about["network"] == network
        assert {str(tensor.dtype) for tensor in tensors.values()} == {"float16"}
    assert load_trained(tmp_path / "out" / "autoencoder.safetensors", "autoencoder")


def test_one_network_to_diffusers_with_a_lora(checkpoint, tmp_path):
    name = "lora_unet_down_blocks_0_attentions_0_proj_in"
    lora = {
        f"{name}.lora_down.weight": np.ones([2, 32, 1, 1], np.float32),
        f"{name}.lora_up.weight": np.ones([32, 2, 1, 1], np.float32),
    }
    save_file(lora, tmp_path / "lora.safetensors")
    done = run(
        f"--input={checkpoint}",
        f"--output={tmp_path}/out",
        "--output_format=diffusers",
        "--component=unet",
        f"--lora={tmp_path}/lora.safetensors",
        "--lora_scale=0.25",
    )
    assert done.returncode == 0, done.stderr
    key, file = "down_blocks.0.attentions.0.proj_in.weight", "diffusion_pytorch_model.safetensors"
    before, after = (load_file(f / "unet" / file) for f in (checkpoint, tmp_path / "out"))
    np.testing.assert_allclose(after[key], before[key] + 0.5, rtol=1e-6)
    assert not (tmp_path / "out" / "model_index.json").exists()


@pytest.mark.parametrize(
    ("made_for", "advice"),
    [
        (Distilled(8, 3.0), "num_inference_steps=8 and guidance_scale=1 (3 is baked in)\n"),
        (Distilled(4, None, "lcm"), "num_inference_steps=4\n"),
    ],
)
def test_diffusers_cannot_be_told_of_distillation_but_the_user_is(
    checkpoint, tmp_path, made_for, advice
):
    (unet,) = convert.read(checkpoint, convert.DIFFUSERS, ["unet"])
    unet.about["distilled"] = made_for._asdict()
    convert.write([unet], tmp_path / "ours", convert.TFSNAP)
    flags = f"--input={tmp_path}/ours", f"--output={tmp_path}/out", "--component=unet"
    done = run(*flags, "--output_format=diffusers")
    assert done.returncode == 0, done.stderr
    assert f"call its pipeline with {advice}" in done.stdout


def test_a_smaller_vocabulary_has_its_own_tokenizer(tmp_path):
    text = make_text_encoder(vocab_size=1000, bos_token_id=998, eos_token_id=999)
    source = save(tmp_path / "hf", text_encoder=text)
    flags = ["--component=text_encoder", "--output_format=diffusers"]
    done = run(f"--input={source}", f"--output={tmp_path}/out", *flags)
    assert done.returncode == 0, done.stderr
    ids = json.loads((tmp_path / "out/tokenizer/vocab.json").read_text())
    assert sorted(ids.values()) == list(range(1000))
    assert ids["<|endoftext|>"] == 999


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--input=nothing"], "convert_weights: nothing: there is no such file"),
        (["--input_format=ldm"], "no such weight file"),
        (["--input_format=tfsnap"], "no such weight file"),
        (["--lora_scale=0.5"], "--lora_scale is 0.5 without a LoRA: name one by --lora"),
        (["--component=vae", "--prediction=v"], "--prediction says nothing about autoencoder:"),
        (["--prediction=v"], "says that its UNet predicts epsilon, and --prediction is v: leave"),
    ],
)
def test_failures_are_one_line_and_leave_nothing(arguments, message, checkpoint, tmp_path):
    done = run(f"--input={checkpoint}", f"--output={tmp_path}/out", *arguments)
    assert done.returncode == 1
    assert message in done.stderr and "Traceback" not in done.stderr
    assert list(tmp_path.iterdir()) == []
