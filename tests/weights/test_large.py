"""Stable Diffusion v1.5 at full size, with random weights: parity and memory.

    python -m pytest tests/weights/test_large.py --large -s

Needs 12 GB of memory and 15 GB of disk. What it prints is the table of docs/weights.md.
"""

import gc
import pathlib
import re
import subprocess
import sys
import time

import numpy as np
import pytest
import torch
from diffusers import (
    AutoencoderKL,
    DPMSolverMultistepScheduler,
    StableDiffusionPipeline,
    UNet2DConditionModel,
)
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

from tests.weights.references import (
    TOLERANCE,
    nchw,
    nhwc,
    randomised,
    relative_error,
    save,
    unet_inputs,
    with_tanh_gelu,
)
from tfsnap.config import AutoencoderConfig, ClipTextConfig, UNetConfig
from tfsnap.export.parity import psnr_db
from tfsnap.pretrained import load_pipeline
from tfsnap.runtime.philox import normal
from tfsnap.tokenizer import read_vocabulary
from tfsnap.weights import convert
from tfsnap.weights.archive import load_trained
from tfsnap.weights.diffusers_config import (
    autoencoder_to_json,
    text_encoder_to_json,
    unet_to_json,
)

pytestmark = pytest.mark.large

ROOT = pathlib.Path(__file__).parents[2]
ALLOWED = 1.5  # Peak memory over the checkpoint's size, beside the interpreter's own.

# The kernel's own mark, as getrusage's starts from that of the process that started this one.
_MEASURE = """
import pathlib, runpy, sys
sys.argv = {argv}
{run}
status = pathlib.Path("/proc/self/status").read_text()
print("PEAK", status.partition("VmHWM:")[2].split()[0])
"""
_RUN = """
try:
    runpy.run_path(sys.argv[0], run_name="__main__")
except SystemExit as error:
    assert not error.code, error.code
"""


def peak_bytes(arguments=None):
    """Peak memory of tools/convert_weights.py, or of a process that only imports it."""
    tool = str(ROOT / "tools/convert_weights.py")
    run = _RUN if arguments else "import tools.convert_weights"
    code = _MEASURE.format(argv=[tool, *(arguments or [])], run=run)
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    return int(re.search(r"PEAK (\d+)", done.stdout)[1]) * 1024


def size_of(folder):
    return sum(path.stat().st_size for path in folder.rglob("*.safetensors"))


def first_inputs(config):
    """One latent of 64 x 64 and what belongs to it."""
    return {key: value[:1] for key, value in unet_inputs(config, 64, 64, 77).items()}


def reference_unet(folder, config):
    """Saves diffusers' UNet; returns its outputs with the exact GELU and with the tanh form."""
    unet = randomised(UNet2DConditionModel.from_config(unet_to_json(config, 64)))
    save(folder, unet=unet)
    inputs = {key: torch.from_numpy(value) for key, value in first_inputs(config).items()}
    latent = torch.moveaxis(inputs["latent"], -1, 1).contiguous()

    def output():
        with torch.no_grad():
            return nhwc(unet(latent, inputs["timesteps"], inputs["context"]).sample)

    exact = output()
    with_tanh_gelu(unet)
    return exact, output()


def assert_unet(path, config, exact, tanh):
    model = load_trained(path, "unet").model
    assert model.config == config
    inputs = first_inputs(config)
    actual = model(inputs["latent"], timesteps=inputs["timesteps"], context=inputs["context"])
    error, cost = relative_error(actual, tanh), relative_error(actual, exact)
    print(f"\nUNet {error:.1e}; against the exact GELU {cost:.1e}")
    assert error <= TOLERANCE
    assert cost <= 1e-3


def reference_text(folder, config):
    """Saves transformers' text encoder, with the tanh form of GELU if it has one; its states."""
    text = randomised(CLIPTextModel(CLIPTextConfig(**text_encoder_to_json(config))))
    text.save_pretrained(folder / "text_encoder")
    if config.activation == "gelu":
        for layer in text.encoder.layers:
            layer.mlp.activation_fn = torch.nn.GELU(approximate="tanh")
    tokens = np.random.default_rng(0).integers(0, 49406, [2, 77]).astype(np.int32)
    tokens[:, 0], tokens[0, 20:], tokens[1, 76] = 49406, 49407, 49407
    with torch.no_grad():
        out = text(torch.from_numpy(tokens).long(), output_hidden_states=True)
        states = [text.final_layer_norm(state).numpy() for state in out.hidden_states]
    return tokens, states, out.pooler_output.numpy()


def reference_vae(folder):
    vae = randomised(AutoencoderKL.from_config(autoencoder_to_json(AutoencoderConfig(), 512)))
    vae.save_pretrained(folder / "vae")
    image = np.random.default_rng(0).uniform(-1, 1, [1, 256, 192, 3]).astype(np.float32)
    with torch.no_grad():
        moments = vae.encode(nchw(image)).latent_dist
        picture = vae.decode(moments.mean).sample
    return image, nhwc(moments.mean), nhwc(moments.logvar), nhwc(picture)


@pytest.fixture(scope="module")
def full(tmp_path_factory):
    """A checkpoint in diffusers' layout, what it computes, and its conversion."""
    root = tmp_path_factory.mktemp("full")
    folder, converted = root / "hf", root / "tfsnap"
    answers = {
        "unet": reference_unet(folder, UNetConfig()),
        "text": reference_text(folder, ClipTextConfig()),
        "vae": reference_vae(folder),
    }
    start = time.monotonic()
    peak = peak_bytes([f"--input={folder}", f"--output={converted}"])
    seconds, idle = time.monotonic() - start, peak_bytes()
    report("diffusers -> tfsnap", peak, idle, size_of(folder), seconds)
    assert peak - idle <= ALLOWED * size_of(folder)
    return folder, converted, answers


def report(what, peak, idle, size, seconds):
    print(
        f"\n{what}: checkpoint {size / 1e9:.2f} GB, peak {peak / 1e9:.2f} GB, of which imports "
        f"{idle / 1e9:.2f} GB, {seconds:.0f} s"
    )


def test_unet(full):
    assert_unet(full[1] / "unet.safetensors", UNetConfig(), *full[2]["unet"])


def test_unet_of_stable_diffusion_2(tmp_path):
    config = UNetConfig(context_width=1024, head_width=64)
    answers = reference_unet(tmp_path / "hf", config)
    components = convert.read(tmp_path / "hf", convert.DIFFUSERS, ["unet"])
    convert.write(components, tmp_path / "out", convert.TFSNAP)
    assert_unet(tmp_path / "out" / "unet.safetensors", config, *answers)


def test_text_encoder(full):
    assert_text(full[1], *full[2]["text"])


def test_text_encoder_of_stable_diffusion_2(tmp_path):
    config = ClipTextConfig(width=1024, layers=23, heads=16, activation="gelu")
    answers = reference_text(tmp_path / "hf", config)
    components = convert.read(tmp_path / "hf", convert.DIFFUSERS, ["text_encoder"])
    assert components[0].config == config
    convert.write(components, tmp_path / "out", convert.TFSNAP)
    assert_text(tmp_path / "out", *answers)


def assert_text(folder, tokens, expected, pooled):
    model = load_trained(folder / "text_encoder.safetensors", "text_encoder").model
    blocks, errors = model.blocks, []
    for count, states in enumerate(expected):
        model.blocks = blocks[:count]
        actual = model(tokens).numpy()
        errors.append(relative_error(actual, states))
    ends = np.array([20, 76])
    pooled_error = relative_error(actual[np.arange(2), ends], pooled)
    print(f"\nText encoder: {len(errors)} states {max(errors):.1e}, pooled {pooled_error:.1e}")
    assert max(*errors, pooled_error) <= TOLERANCE


def test_autoencoder(full):
    image, mean, logvar, picture = full[2]["vae"]
    model = load_trained(full[1] / "autoencoder.safetensors", "autoencoder").model
    found = model.encoder(image)
    errors = [relative_error(*pair) for pair in zip(found, (mean, logvar), strict=True)]
    errors.append(relative_error(model.decoder(mean), picture))
    print("\nAutoencoder mean, log-variance, decoder:", *(f"{error:.1e}" for error in errors))
    assert max(errors) <= TOLERANCE


def test_a_whole_picture(full, merges, tmp_path):
    """256 x 256 pixels in 3 steps of DPM-Solver++ with guidance, exact GELU there, tanh here."""
    folder, converted, _ = full
    components = convert.read(folder, convert.DIFFUSERS, ["text_encoder"])
    options = {"vocabulary": read_vocabulary(merges)}
    convert.write(components, tmp_path / "text", convert.DIFFUSERS, **options)
    pipe = StableDiffusionPipeline(
        unet=UNet2DConditionModel.from_pretrained(folder / "unet"),
        vae=AutoencoderKL.from_pretrained(folder / "vae"),
        text_encoder=CLIPTextModel.from_pretrained(folder / "text_encoder"),
        tokenizer=CLIPTokenizer.from_pretrained(tmp_path / "text" / "tokenizer"),
        scheduler=DPMSolverMultistepScheduler.from_pretrained(folder / "scheduler"),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )
    start = time.monotonic()
    theirs = pipe(
        "a red apple",
        latents=nchw(normal(0, (1, 32, 32, 4))),
        num_inference_steps=3,
        height=256,
        width=256,
        output_type="np",
    ).images[0]
    seconds = [time.monotonic() - start]
    del pipe
    gc.collect()
    ours = load_pipeline(converted, height=256, width=256)
    start = time.monotonic()
    (found,) = ours.generate(["a red apple"], sampler="dpmpp_2m", steps=3)
    seconds.append(time.monotonic() - start)
    psnr = psnr_db(theirs, np.clip(found.image[0], -1, 1) / 2 + 0.5)
    print(
        f"\nWhole picture: {psnr:.1f} dB; diffusers {seconds[0]:.0f} s, tfsnap {seconds[1]:.0f} s"
    )
    assert psnr >= 50.0


def test_back_to_diffusers_in_half_precision(full, tmp_path):
    folder, converted, _ = full
    start = time.monotonic()
    arguments = [f"--input={converted}", f"--output={tmp_path}/hf", "--dtype=float16"]
    peak = peak_bytes([*arguments, "--output_format=diffusers"])
    seconds, idle = time.monotonic() - start, peak_bytes()
    report("tfsnap -> diffusers float16", peak, idle, size_of(tmp_path / "hf"), seconds)
    assert peak - idle <= ALLOWED * size_of(tmp_path / "hf")
    for network in ("unet", "autoencoder", "text_encoder"):
        (old,) = convert.read(folder, convert.DIFFUSERS, [network])
        (new,) = convert.read(tmp_path / "hf", convert.DIFFUSERS, [network])
        for key, tensor in old.tensors.items():
            expected = tensor.read().astype(np.float16)
            np.testing.assert_array_equal(new.tensors[key].read(), expected)


def test_keras_cv_unet(tmp_path):
    import tf_keras as keras
    from keras_cv.models.stable_diffusion import DiffusionModel

    from tfsnap.models.unet import time_features
    from tfsnap.weights.from_keras_cv import read_keras_cv_models

    reference = DiffusionModel(256, 256, 77, download_weights=False)
    rng = np.random.default_rng(0)
    for variable in reference.variables:
        if variable.shape.rank == 1:
            variable.assign_add(0.1 * rng.standard_normal(variable.shape, np.float32))
    inputs = {key: value[:1] for key, value in unet_inputs(UNetConfig(), 32, 32, 77).items()}
    features = time_features(inputs["timesteps"], 320)[:, 0]
    expected = reference([inputs["latent"], features, inputs["context"]]).numpy()
    (part,) = read_keras_cv_models([reference], ["unet"])
    assert part.config == UNetConfig()
    convert.write([part], tmp_path / "out", convert.TFSNAP)
    del reference, part
    keras.backend.clear_session()
    model = load_trained(tmp_path / "out" / "unet.safetensors", "unet").model
    actual = model(inputs["latent"], timesteps=inputs["timesteps"], context=inputs["context"])
    error = relative_error(actual, expected)
    print(f"\nKerasCV's UNet {error:.1e}")
    assert error <= TOLERANCE


def test_the_original_ckpt_gives_the_same_files(full, tmp_path):
    folder, converted, _ = full
    prefixes = {
        "unet": "model.diffusion_model.",
        "autoencoder": "first_stage_model.",
        "text_encoder": "cond_stage_model.",
    }
    state = {}
    for part in convert.read(folder, convert.DIFFUSERS):
        for row in part.rows:
            array = row.to_torch(part.tensors[row.address].read())
            name = prefixes[part.network] + row.ldm
            state[name] = torch.from_numpy(np.ascontiguousarray(array))
    torch.save({"state_dict": state}, tmp_path / "model.ckpt")
    del state
    start = time.monotonic()
    peak = peak_bytes([f"--input={tmp_path}/model.ckpt", f"--output={tmp_path}/out"])
    seconds, idle = time.monotonic() - start, peak_bytes()
    size = (tmp_path / "model.ckpt").stat().st_size
    report("ckpt -> tfsnap", peak, idle, size, seconds)
    assert peak - idle <= ALLOWED * size
    for network in prefixes:
        (old,) = convert.read(converted, convert.TFSNAP, [network])
        (new,) = convert.read(tmp_path / "out", convert.TFSNAP, [network])
        assert new.config == old.config
        for key, tensor in old.tensors.items():
            np.testing.assert_array_equal(new.tensors[key].read(), tensor.read())
