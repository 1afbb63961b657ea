"""A latent consistency model from its checkpoint to a picture: here and in diffusers."""

import json

import diffusers
import numpy as np
import pytest
from transformers import CLIPTokenizer

from tests.weights.references import make_scheduler, make_unet, nchw
from tfsnap.config import ScheduleConfig
from tfsnap.diffusion.samplers import SAMPLERS
from tfsnap.diffusion.schedule import NoiseSchedule
from tfsnap.export.parity import psnr_db
from tfsnap.models.latent_diffusion import Distilled
from tfsnap.pretrained import load_pipeline
from tfsnap.runtime import RequestError
from tfsnap.runtime.philox import normal
from tfsnap.runtime.settings import Sampler as Settings
from tfsnap.tokenizer import read_vocabulary
from tfsnap.weights import convert
from tfsnap.weights.diffusers_config import scheduler_to_json

PROMPT, STEPS, SEED, SHAPE = "a red apple, noto style", 4, 3, (1, 12, 8, 4)


@pytest.fixture(scope="module")
def parts(modules):
    scheduler = diffusers.LCMScheduler.from_config(make_scheduler().config)
    return {**modules, "unet": make_unet(time_cond_proj_dim=16), "scheduler": scheduler}


@pytest.fixture(scope="module")
def folder(parts, merges, tmp_path_factory):
    """The checkpoint after a trip through our layout."""
    root = tmp_path_factory.mktemp("consistency")
    for name, part in parts.items():
        part.save_pretrained(root / "source" / name)
    read = convert.read(root / "source", convert.DIFFUSERS)
    convert.write(read, root / "ours", convert.TFSNAP)
    again = convert.read(root / "ours", convert.TFSNAP)
    convert.write(again, root / "hf", convert.DIFFUSERS, vocabulary=read_vocabulary(merges))
    return root


def test_its_pictures_are_those_of_diffusers_at_any_scale(parts, folder, monkeypatch):
    pipe = diffusers.LatentConsistencyModelPipeline(
        **{**parts, "unet": diffusers.UNet2DConditionModel.from_pretrained(folder / "hf/unet")},
        tokenizer=CLIPTokenizer.from_pretrained(folder / "hf/tokenizer"),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )
    pipe.set_progress_bar_config(disable=True)
    ours = load_pipeline(folder / "ours", height=24, width=16)
    assert ours.settings.sampler.default == "lcm" and ours.settings.guidance.width == 16
    found = []
    for scale in (1.5, 8.0):
        draws = iter(range(1, STEPS))
        monkeypatch.setattr(
            "diffusers.schedulers.scheduling_lcm.randn_tensor",
            lambda *_, draws=draws, **__: nchw(normal(SEED, SHAPE, stream=next(draws))),
        )
        theirs = pipe(
            PROMPT,
            height=24,
            width=16,
            num_inference_steps=STEPS,
            guidance_scale=scale,
            latents=nchw(normal(SEED, SHAPE)),
            output_type="np",
        ).images[0]
        (result,) = ours.generate([PROMPT], steps=STEPS, guidance=scale, seed=SEED)
        found.append(np.clip(result.image[0], -1.0, 1.0) / 2 + 0.5)
        psnr = psnr_db(theirs, found[-1])
        print(f"latent consistency, scale {scale}: {psnr:.1f} dB")
        assert psnr >= 50.0
    assert psnr_db(*found) < 40.0
    with pytest.raises(RequestError, match="leave out the negative prompt"):
        ours(PROMPT, negative_prompt="blurry")


@pytest.mark.parametrize(
    ("sampler", "steps", "name", "train_steps"),
    [
        ("ddim", 8, "DDIMScheduler", 1000),
        ("lcm", 3, "LCMScheduler", 1000),
        ("lcm", 4, "LCMScheduler", 40),  # Fewer than diffusers' solver has by default.
    ],
)
def test_what_was_distilled_here_gets_its_scheduler(sampler, steps, name, train_steps):
    schedule = ScheduleConfig(steps=train_steps)
    about = {
        "prediction": "v",
        "schedule": schedule.to_dict(),
        "distilled": Distilled(steps, 3.0, sampler)._asdict(),
        "diffusers_scheduler": {"_class_name": "PNDMScheduler"},  # The teacher's.
    }
    written = scheduler_to_json(json.loads(json.dumps(about)))
    assert written["_class_name"] == name
    scheduler = getattr(diffusers, name).from_config(written)
    assert scheduler.config.prediction_type == "v_prediction"
    scheduler.set_timesteps(steps)
    ours = SAMPLERS[sampler].path(NoiseSchedule(schedule), steps, Settings().times(sampler))
    assert scheduler.timesteps.tolist() == [step.start.t for step in ours]
    assert scheduler.final_alpha_cumprod == 1.0 and ours[-1].end.sigma == 0.0


def test_what_was_not_distilled_has_the_times_of_stable_diffusion():
    written = scheduler_to_json({"prediction": "v"})
    assert written["_class_name"] == "DDIMScheduler"
    assert (written["timestep_spacing"], written["steps_offset"]) == ("leading", 1)
    assert not written["set_alpha_to_one"]
