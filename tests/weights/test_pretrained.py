"""From a checkpoint to a picture: the same prompt, noise and weights, here and in diffusers."""

import diffusers
import numpy as np
import pytest
from PIL import Image
from transformers import CLIPTokenizer

from tests.weights.references import make_scheduler, nchw
from tfsnap.cli import main
from tfsnap.diffusion.paths import Spacing
from tfsnap.export.parity import psnr_db
from tfsnap.pretrained import load_pipeline
from tfsnap.runtime import RequestError
from tfsnap.runtime.errors import WeightsError
from tfsnap.runtime.philox import normal
from tfsnap.runtime.settings import Sampler
from tfsnap.tokenizer import read_vocabulary
from tfsnap.weights import convert
from tfsnap.weights.diffusers_config import sampling_from_json

WANTED_DB = 50.0
HEIGHT, WIDTH = 24, 16  # The autoencoder halves once: a latent of 12 x 8.
PROMPT, NEGATIVE = "a red apple, noto style", "blurry"
STEPS, GUIDANCE, SEED = 9, 5.0, 3

SCHEDULERS = {
    "ddim": (diffusers.DDIMScheduler, {}),
    "dpmpp_2m": (diffusers.DPMSolverMultistepScheduler, {}),
    "dpmpp_2m_karras": (diffusers.DPMSolverMultistepScheduler, {"use_karras_sigmas": True}),
    "euler": (diffusers.EulerDiscreteScheduler, {}),
    "pndm": (diffusers.PNDMScheduler, {"skip_prk_steps": True}),
}


@pytest.fixture(scope="module")
def hugging_face(modules, merges, tmp_path_factory):
    """A whole pipeline's folder, tokenizer included."""
    folder = tmp_path_factory.mktemp("pretrained")
    for name, module in modules.items():
        module.save_pretrained(folder / "source" / name)
    make_scheduler(timestep_spacing="leading").save_pretrained(folder / "source" / "scheduler")
    components = convert.read(folder / "source", convert.DIFFUSERS)
    convert.write(components, folder / "hf", convert.DIFFUSERS, vocabulary=read_vocabulary(merges))
    return folder / "hf"


@pytest.fixture(scope="module")
def converted(hugging_face):
    """The same in tfsnap's layout."""
    folder = hugging_face.parent / "tfsnap"
    convert.write(convert.read(hugging_face, convert.DIFFUSERS), folder, convert.TFSNAP)
    return folder


@pytest.fixture(scope="module")
def ours(converted):
    return load_pipeline(converted, height=HEIGHT, width=WIDTH)


@pytest.fixture(scope="module")
def parts(modules, hugging_face):
    """The arguments of diffusers' pipelines, without a scheduler."""
    return {
        **modules,
        "tokenizer": CLIPTokenizer.from_pretrained(hugging_face / "tokenizer"),
        "safety_checker": None,
        "feature_extractor": None,
        "requires_safety_checker": False,
    }


def scheduler_of(name):
    kind, options = SCHEDULERS[name]
    return kind.from_config(make_scheduler(timestep_spacing="leading").config, **options)


def noise(height=HEIGHT, width=WIDTH):
    return nchw(normal(SEED, (1, height // 2, width // 2, 4)))


def drawn(pipe, **options):
    pipe.set_progress_bar_config(disable=True)
    return pipe(
        PROMPT,
        negative_prompt=NEGATIVE,
        num_inference_steps=STEPS,
        guidance_scale=GUIDANCE,
        output_type="np",
        **options,
    ).images[0]


def generated(pipeline, **options):
    (result,) = pipeline.generate(
        [PROMPT], negative_prompt=NEGATIVE, steps=STEPS, guidance=GUIDANCE, seed=SEED, **options
    )
    return np.clip(result.image[0], -1.0, 1.0) / 2 + 0.5


@pytest.mark.parametrize("name", SCHEDULERS)
def test_text_to_image_is_that_of_diffusers(name, ours, parts):
    pipe = diffusers.StableDiffusionPipeline(**parts, scheduler=scheduler_of(name))
    theirs = drawn(pipe, height=HEIGHT, width=WIDTH, latents=noise())
    psnr = psnr_db(theirs, generated(ours, sampler=name))
    print(f"text to image, {name}: {psnr:.1f} dB")
    assert psnr >= WANTED_DB
    other = psnr_db(theirs, generated(ours, sampler="ddim" if name != "ddim" else "dpmpp_2m"))
    assert other < psnr - 10  # It tells samplers apart, though not by much at these weights.


def test_any_size_that_the_autoencoder_has_cells_for(converted, parts):
    """A latent of 11 x 9 is halved to 6 x 5 on the way down, and cut on the way up."""
    pipe = diffusers.StableDiffusionPipeline(**parts, scheduler=scheduler_of("ddim"))
    pipe.vae_scale_factor = 2
    pipe.check_inputs = lambda *_, **__: None  # It wants multiples of 8 pixels, for SD's stages.
    theirs = drawn(pipe, height=22, width=18, latents=noise(22, 18))
    found = generated(load_pipeline(converted, height=22, width=18))
    assert found.shape == (22, 18, 3)
    assert psnr_db(theirs, found) >= WANTED_DB


@pytest.fixture
def photo():
    """A picture, and a mask on the borders of cells."""
    rng = np.random.default_rng(1)
    pixels = rng.integers(0, 256, [HEIGHT, WIDTH, 3]).astype(np.uint8)
    mask = np.zeros([HEIGHT, WIDTH], np.uint8)
    mask[4:14, 6:12] = 255
    return Image.fromarray(pixels), Image.fromarray(mask)


def quiet_randomness(monkeypatch, module):
    """diffusers draws our noise, and takes the mean latent of a picture."""
    where = f"diffusers.pipelines.stable_diffusion.pipeline_stable_diffusion_{module}"
    monkeypatch.setattr(f"{where}.randn_tensor", lambda *_, **__: noise())
    distribution = diffusers.models.autoencoders.vae.DiagonalGaussianDistribution
    monkeypatch.setattr(distribution, "sample", lambda self, generator=None: self.mean)


@pytest.mark.parametrize("name", ["ddim", "dpmpp_2m", "euler"])
@pytest.mark.parametrize("strength", [0.5, 1.0])
def test_image_to_image_is_that_of_diffusers(name, strength, ours, parts, photo, monkeypatch):
    quiet_randomness(monkeypatch, "img2img")
    pipe = diffusers.StableDiffusionImg2ImgPipeline(**parts, scheduler=scheduler_of(name))
    theirs = drawn(pipe, image=photo[0], strength=strength)
    psnr = psnr_db(theirs, generated(ours, sampler=name, image=photo[0], strength=strength))
    print(f"image to image, {name}, strength {strength}: {psnr:.1f} dB")
    assert psnr >= WANTED_DB


@pytest.mark.parametrize("name", ["ddim", "dpmpp_2m", "euler"])
@pytest.mark.parametrize("strength", [0.6, 1.0])
def test_inpainting_is_that_of_diffusers(name, strength, ours, parts, photo, monkeypatch):
    quiet_randomness(monkeypatch, "inpaint")
    pipe = diffusers.StableDiffusionInpaintPipeline(**parts, scheduler=scheduler_of(name))
    image, mask = photo
    sizes = {"height": HEIGHT, "width": WIDTH}
    theirs = drawn(pipe, image=image, mask_image=mask, strength=strength, **sizes)
    found = generated(ours, sampler=name, image=image, mask=mask, strength=strength)
    psnr = psnr_db(theirs, found)
    print(f"inpainting, {name}, strength {strength}: {psnr:.1f} dB")
    assert psnr >= WANTED_DB


def test_the_checkpoints_scheduler_is_the_default(converted, ours):
    sampler = ours.settings.sampler
    assert (sampler.default, sampler.steps, sampler.spacing) == ("ddim", 50, "leading")
    assert (sampler.steps_offset, sampler.set_alpha_to_one) == (1, False)
    assert ours.tokenizer.pad_token == 49407
    # As Stable Diffusion's own file, which leaves the spacing to the scheduler that reads it.
    own = {"_class_name": "PNDMScheduler", "skip_prk_steps": True, "steps_offset": 1}
    sampler = Sampler(**sampling_from_json({**own, "set_alpha_to_one": False}))
    assert (sampler.default, sampler.times("pndm")) == ("pndm", Spacing("leading", 1, 0))
    for name, (kind, options) in SCHEDULERS.items():
        theirs = kind.from_config(dict(own), **options).config.timestep_spacing
        assert sampler.times(name).kind == theirs
    assert load_pipeline(converted).components.image_shape == (16, 16, 3)  # The vae's sample_size.


def test_what_cannot_be_loaded_is_one_line(hugging_face, converted, tmp_path):
    with pytest.raises(WeightsError, match="is a diffusers folder: convert it first"):
        load_pipeline(hugging_face)
    with pytest.raises(WeightsError, match="unet.safetensors"):
        load_pipeline(tmp_path)
    with pytest.raises(WeightsError, match="unet.safetensors is no folder"):
        load_pipeline(converted / "unet.safetensors")
    with pytest.raises(RequestError, match="height is 15; it must be a positive multiple of 2"):
        load_pipeline(converted, height=15)


def test_generate_runs_weights_with_the_flags_of_bundles(converted, photo, tmp_path, capsys):
    for name, picture in zip(("image", "mask"), photo, strict=True):
        picture.save(tmp_path / f"{name}.png")
    size = [f"--size={HEIGHT}x{WIDTH}", "--steps=2"]
    flags = ["generate", f"--weights={converted}", "--prompt=a red apple", *size]
    source = [f"--image={tmp_path}/image.png", f"--mask={tmp_path}/mask.png", "--strength=0.9"]
    several = ["--images_per_prompt=2", f"--output={tmp_path}/{{index}}.png", "--sampler=euler"]
    assert main([*flags, *source, *several]) == 0
    found = [np.array(Image.open(tmp_path / f"{i}.png")) for i in range(2)]
    assert found[0].shape == (HEIGHT, WIDTH, 3)
    assert not np.array_equal(*found)
    assert capsys.readouterr().out.split() == [f"{tmp_path}/0.png", f"{tmp_path}/1.png"]
    assert main([*flags, f"--image={tmp_path}/none.png", *several]) == 1
    assert "Cannot read the picture" in capsys.readouterr().err
    assert main(["generate", f"--weights={tmp_path}", "--prompt=a", *several]) == 1
    assert "unet.safetensors" in capsys.readouterr().err
