"""The runtime's pipeline on Keras models, from weights on disk: no export, any size."""

import dataclasses
import os
import pathlib
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, TypeVar

from tfsnap.base_config import is_whole
from tfsnap.config import DESCRIPTION_ERRORS, ScheduleConfig
from tfsnap.data.clip_tokens import clip_tokenizer
from tfsnap.data.fetch import FetchError
from tfsnap.diffusion.schedule import NoiseSchedule
from tfsnap.export.keras_components import keras_pipeline, settings_of
from tfsnap.models.latent_diffusion import LatentDiffusion
from tfsnap.runtime.errors import RequestError, WeightsError
from tfsnap.runtime.json_fields import read_fields
from tfsnap.runtime.manifest import MANIFEST
from tfsnap.runtime.pipeline import Pipeline
from tfsnap.runtime.settings import Sampler
from tfsnap.training.jobs.runs import is_run, load_finished
from tfsnap.weights.archive import Opened, Trained, load_trained, open_trained, read_distilled
from tfsnap.weights.component import damaged, read_config
from tfsnap.weights.diffusers_config import sampling_from_json
from tfsnap.weights.lazy import LazyTensor
from tfsnap.weights.store import WeightFileError, WeightMismatchError

GUIDANCE = 7.5  # The default of Stable Diffusion, as are 50 steps.
STEPS = 50
_NETWORKS = ("unet", "autoencoder", "text_encoder")

Network = TypeVar("Network", Trained, Opened)


class Pretrained(NamedTuple):
    """A model whose weights are still on disk.

    Attributes:
      model: networks without weights, see `tfsnap.weights.archive.Opened`.
      values: what their variables hold, by address.
      sampler: what a distilled UNet was made for; else of the checkpoint's scheduler, 50 steps or
        as many as its schedule has.
    """

    model: LatentDiffusion
    values: Mapping[str, LazyTensor]
    sampler: Sampler


def open_pretrained(folder: str | os.PathLike) -> Pretrained:
    """Opens what tools/convert_weights.py wrote, without reading a weight.

    Raises:
      WeightsError: a file is missing, damaged or holds something else.
    """
    try:
        opened = _networks(pathlib.Path(folder), open_trained)
        model, sampler = _assemble(pathlib.Path(folder), opened)
    except (OSError, ValueError) as error:
        raise WeightsError(str(error)) from error
    values = {name: value for part in opened.values() for name, value in part.values.items()}
    return Pretrained(model, values, sampler)


def load_pipeline(
    folder: str | os.PathLike, *, height: int | None = None, width: int | None = None
) -> Pipeline:
    """Loads a text-to-image model to be run in float32 by TensorFlow.

    Args:
      folder: what tools/convert_weights.py wrote, or the workdir of a finished UNet run.
      height: of the pictures, in pixels; by default what the model was trained on.
      width: of the pictures, in pixels.

    Returns:
      A pipeline with guidance 7.5, and with the sampler and spacing of the checkpoint's scheduler,
      DDIM where there is none, and 50 steps or as many as its schedule has. A distilled UNet has
      its own sampler and steps, and perhaps its own guidance.

    Raises:
      WeightsError: a file is missing, damaged or holds something else.
      RequestError: the pictures cannot have that size.

    Example:
      >>> load_pipeline("sd15", height=512, width=768)("a lighthouse", sampler="dpmpp_2m", steps=20)
    """
    try:
        found, sampler = _load(pathlib.Path(folder))
        tokenizer = clip_tokenizer(found.text_encoder.config, found.pad_token)
    except (FetchError, OSError, ValueError, WeightFileError, WeightMismatchError) as error:
        raise WeightsError(str(error)) from error
    model = resized(found, height, width)
    settings = settings_of(model, guidance=GUIDANCE, sampler=sampler)
    return keras_pipeline(model, tokenizer, settings)


def _load(folder: pathlib.Path) -> tuple[LatentDiffusion, Sampler]:
    """The networks, and how they are sampled by default."""
    if is_run(folder):
        found = load_finished(folder)
        return found, _sampler(folder, found, {})
    return _assemble(folder, _networks(folder, load_trained))


def _networks(
    folder: pathlib.Path, load: Callable[[pathlib.Path, str], Network]
) -> dict[str, Network]:
    if not folder.is_dir():
        raise WeightFileError(
            f"{folder} is no folder: give that which tools/convert_weights.py wrote, or the "
            "workdir of a UNet"
        )
    if (folder / MANIFEST).is_file():
        raise WeightFileError(f"{folder} is a bundle: tfsnap generate --bundle draws with it")
    if is_run(folder):
        raise WeightFileError(f"{folder} is the workdir of a run: give it as --workdir")
    if (folder / "unet" / "config.json").is_file():
        raise WeightFileError(
            f"{folder} is a diffusers folder: convert it first, tools/convert_weights.py "
            f"--input={folder} --output=..., and give what that writes"
        )
    return {name: load(_file(folder, name), name) for name in _NETWORKS}


def _file(folder: pathlib.Path, network: str) -> pathlib.Path:
    return folder / f"{network}.safetensors"


def _assemble(
    folder: pathlib.Path, networks: Mapping[str, Trained | Opened]
) -> tuple[LatentDiffusion, Sampler]:
    """The model, and how it is sampled by default."""
    unet, unet_about = networks["unet"][:2]
    autoencoder, about = networks["autoencoder"][:2]
    text_encoder, text_about = networks["text_encoder"][:2]
    fits = {
        "width of the text": (unet.config.context_width, text_encoder.config.width),
        "latent channels": (unet.config.in_channels, autoencoder.config.latent_channels),
    }
    for what, (taken, given) in fits.items():
        if taken != given:
            raise WeightMismatchError(
                f"the networks in {folder} do not belong together: the UNet takes {taken} and the "
                f"others give {given} ({what}); convert one checkpoint into an empty folder"
            )
    file, vocab_size = _file(folder, "unet"), text_encoder.config.vocab_size
    model = LatentDiffusion(
        text_encoder=text_encoder,
        unet=unet,
        autoencoder=autoencoder,
        schedule=NoiseSchedule(read_config(file, ScheduleConfig, unet_about.get("schedule", {}))),
        prediction=unet_about.get("prediction", "epsilon"),
        resolution=_resolution(folder, unet_about, about),
        pad_token=_described(
            _file(folder, "text_encoder"),
            "pad_token",
            text_about.get("pad_token", 0),
            fits=lambda token: is_whole(token, 0) and token < vocab_size,
            wanted=f"from 0 to {vocab_size - 1}",
        ),
        distilled=read_distilled(file, unet_about),
    )
    return model, _sampler(file, model, unet_about)


def _described(
    file: pathlib.Path, field: str, value: Any, *, fits: Callable[[Any], bool], wanted: str
) -> Any:
    """A value of a file's description, if it fits."""
    if not fits(value):
        raise damaged(file, f"{field} is {value!r}; it must be {wanted}")
    return value


def _resolution(
    folder: pathlib.Path, unet: Mapping[str, Any], autoencoder: Mapping[str, Any]
) -> tuple[int, int]:
    """Of the UNet's description, or else the autoencoder's, which has one for both sides."""

    def is_side(value: Any) -> bool:
        return is_whole(value, 1)

    def are_sides(value: Any) -> bool:
        return isinstance(value, list) and len(value) == 2 and all(map(is_side, value))

    field, file = "resolution", _file(folder, "unet")
    if field in unet:
        wanted = "height and width in pixels"
        height, width = _described(file, field, unet[field], fits=are_sides, wanted=wanted)
        return height, width
    file, side = _file(folder, "autoencoder"), autoencoder.get(field, 512)
    _described(file, field, side, fits=is_side, wanted="a whole number of pixels")
    return side, side


def _sampler(source: pathlib.Path, model: LatentDiffusion, about: Mapping[str, Any]) -> Sampler:
    """How a UNet with such a description is sampled by default.

    What it learnt by distillation goes before the scheduler that its teacher came with: students
    learn the times of the default spacing.

    Raises:
      WeightFileError: the description says what cannot be.
    """
    try:
        if model.distilled:
            sampler = Sampler(model.distilled.sampler, model.distilled.steps)
        else:
            sampler = _of_scheduler(about.get("diffusers_scheduler"), model.schedule.steps)
        settings_of(model, guidance=GUIDANCE, sampler=sampler)  # Whether all of it goes together.
    except DESCRIPTION_ERRORS as error:
        raise damaged(source, error) from error
    return sampler


def _of_scheduler(scheduler: Any, most: int) -> Sampler:
    steps, where = min(STEPS, most), "diffusers_scheduler"
    if scheduler is None:
        return Sampler(steps=steps)
    if not isinstance(scheduler, dict):
        raise ValueError(f"{where} is {scheduler!r}; it must be an object")
    return read_fields(Sampler, {**sampling_from_json(scheduler), "steps": steps}, where=where)


def resized(model: LatentDiffusion, height: int | None, width: int | None) -> LatentDiffusion:
    """The same model for pictures of another size; None keeps a side.

    Raises:
      RequestError: the pictures cannot have that size.
    """
    sides = [
        default if asked is None else asked
        for asked, default in zip((height, width), model.resolution, strict=True)
    ]
    cell = model.autoencoder.config.downsampling
    for name, side in zip(("height", "width"), sides, strict=True):
        if side < 1 or side % cell:
            raise RequestError(f"{name} is {side}; it must be a positive multiple of {cell}")
    return dataclasses.replace(model, resolution=tuple(sides))
