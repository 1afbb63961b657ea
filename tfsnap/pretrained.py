"""The runtime's pipeline on Keras models, from weights on disk: no export, any size."""

import dataclasses
import os
import pathlib
from typing import Any

from tfsnap.config import ScheduleConfig
from tfsnap.data.fetch import FetchError, fetch_merges
from tfsnap.diffusion.schedule import NoiseSchedule
from tfsnap.export.keras_components import keras_pipeline, settings_of
from tfsnap.models.latent_diffusion import LatentDiffusion
from tfsnap.runtime.errors import RequestError, WeightsError
from tfsnap.runtime.pipeline import Pipeline
from tfsnap.runtime.settings import Sampler
from tfsnap.tokenizer import Tokenizer
from tfsnap.training.jobs.runs import is_run, load_finished
from tfsnap.weights.archive import load_trained
from tfsnap.weights.diffusers_config import sampling_from_json
from tfsnap.weights.store import WeightFileError, WeightMismatchError

GUIDANCE = 7.5  # The default of Stable Diffusion, as are 50 steps.
STEPS = 50


def load_pipeline(
    folder: str | os.PathLike, *, height: int | None = None, width: int | None = None
) -> Pipeline:
    """Loads a text-to-image model to be run in float32 by TensorFlow.

    Args:
      folder: what tools/convert_weights.py wrote, or the workdir of a finished UNet run.
      height: of the pictures, in pixels; by default what the model was trained on.
      width: of the pictures, in pixels.

    Returns:
      A pipeline with guidance 7.5, and with the sampler, spacing and 50 steps of the checkpoint's
      scheduler; DDIM where there is none. A run's distilled UNet has its own sampler and steps.

    Raises:
      WeightsError: a file is missing, damaged or holds something else.
      RequestError: the pictures cannot have that size.

    Example:
      >>> load_pipeline("sd15", height=512, width=768)("a lighthouse", sampler="dpmpp_2m", steps=20)
    """
    try:
        found, sampler = _load(pathlib.Path(folder))
        length = found.text_encoder.config.context_length
        tokenizer = Tokenizer(fetch_merges(), context_length=length, pad_token=found.pad_token)
    except (FetchError, OSError, ValueError, WeightFileError, WeightMismatchError) as error:
        raise WeightsError(str(error)) from error
    model = _resized(found, height, width)
    settings = settings_of(model, guidance=GUIDANCE, sampler=sampler)
    return keras_pipeline(model, tokenizer, settings)


def _load(folder: pathlib.Path) -> tuple[LatentDiffusion, Sampler]:
    """The networks, and how they are sampled by default."""
    if is_run(folder):
        found = load_finished(folder)
        return found, Sampler(found.sampler, found.steps if found.distilled else STEPS)
    if not folder.is_dir():
        raise WeightFileError(
            f"{folder} is no folder: give that which tools/convert_weights.py wrote, or the "
            "workdir of a UNet"
        )
    if (folder / "unet" / "config.json").is_file():
        raise WeightFileError(
            f"{folder} is a diffusers folder: convert it first, tools/convert_weights.py "
            f"--input={folder} --output=..., and give what that writes"
        )
    unet, unet_about = load_trained(folder / "unet.safetensors", "unet")
    autoencoder, about = load_trained(folder / "autoencoder.safetensors", "autoencoder")
    text_encoder, text_about = load_trained(folder / "text_encoder.safetensors", "text_encoder")
    side = about.get("resolution", 512)
    height, width = unet_about.get("resolution", [side, side])
    model = LatentDiffusion(
        text_encoder=text_encoder,
        unet=unet,
        autoencoder=autoencoder,
        schedule=NoiseSchedule(ScheduleConfig.from_dict(unet_about.get("schedule", {}))),
        prediction=unet_about.get("prediction", "epsilon"),
        resolution=(height, width),
        pad_token=text_about.get("pad_token", 0),
    )
    return model, _sampler(unet_about)


def _sampler(about: dict[str, Any]) -> Sampler:
    scheduler = about.get("diffusers_scheduler")
    return Sampler(steps=STEPS, **(sampling_from_json(scheduler) if scheduler else {}))


def _resized(model: LatentDiffusion, height: int | None, width: int | None) -> LatentDiffusion:
    sides = [
        default if asked is None else asked
        for asked, default in zip((height, width), model.resolution, strict=True)
    ]
    cell = model.autoencoder.config.downsampling
    for name, side in zip(("height", "width"), sides, strict=True):
        if side < 1 or side % cell:
            raise RequestError(f"{name} is {side}; it must be a positive multiple of {cell}")
    return dataclasses.replace(model, resolution=tuple(sides))
