"""Training the UNet on the latents of captioned pictures."""

import dataclasses
import functools
import json
import os
import pathlib
from typing import Any, ClassVar

import numpy as np
import tensorflow as tf
import tf_keras as keras

from tfsnap.config import Config, ScheduleConfig, UNetConfig
from tfsnap.data.fetch import FetchError, fetch_merges
from tfsnap.data.shuffle import sampling_index
from tfsnap.data.source import BatchSource
from tfsnap.diffusion.schedule import NoiseSchedule
from tfsnap.models.autoencoder import Autoencoder
from tfsnap.models.clip import Clip
from tfsnap.models.latent_diffusion import LatentDiffusion
from tfsnap.models.unet import UNet, build_unet
from tfsnap.objectives.denoise import Denoise
from tfsnap.tokenizer import Tokenizer
from tfsnap.training.config import TrainingConfig
from tfsnap.training.jobs.autoencoder import moment_encoder
from tfsnap.training.jobs.inputs import Captioned, DataConfig, captioned, read_captions
from tfsnap.training.jobs.latents import Latents, open_latents
from tfsnap.training.pictures import mosaic
from tfsnap.training.precision import computing_in
from tfsnap.training.sampling import sample_pictures
from tfsnap.weights.archive import describe, load_trained
from tfsnap.weights.store import WeightFileError

_SHOWN = 16  # Prompts in a preview.


@dataclasses.dataclass(frozen=True)
class UNetJob(Config):
    """Trains the denoiser; the autoencoder and CLIP are finished and frozen.

    Attributes:
      autoencoder: weight file of the autoencoder.
      clip: weight file of CLIP.
      latents: folder of a cache of latents, see `tfsnap.training.jobs.encoding`. Training then
        reads neither pictures nor the autoencoder nor, if the cache has its embeddings, CLIP;
        their weight files are needed for previews only.
      model: the network; its context is as wide as CLIP's text tower.
      data: captioned pictures; without a cache they are encoded once, before the first step.
      training: length, batch and optimizer.
      schedule: the noise schedule.
      prediction: "epsilon" or "v".
      dropout: share of examples with the empty caption, for classifier-free guidance.
      preview_steps: DDIM steps of the preview pictures.
      preview_guidance: their guidance scale.
    """

    label: ClassVar[str] = "UNet"

    autoencoder: str = ""
    clip: str = ""
    latents: str = ""
    model: UNetConfig = UNetConfig()
    data: DataConfig = DataConfig()
    training: TrainingConfig = TrainingConfig()
    schedule: ScheduleConfig = ScheduleConfig()
    prediction: str = "epsilon"
    dropout: float = 0.1
    preview_steps: int = 20
    preview_guidance: float = 3.0

    def build(self) -> tuple[keras.Model, Denoise]:
        """See `Job`."""
        model = build_unet(self.model)  # First: its weights depend on the seed and nothing else.
        # Without a cache the data waits: a run that only lacks its weights never needs it.
        stored = self.encoded if self.latents else None
        ready = stored is not None and stored.condition == "context"
        objective = Denoise(
            text_encoder=None if ready else self.trained_clip.text_encoder,
            schedule=NoiseSchedule(self.schedule),
            prediction=self.prediction,
            scale=stored.scale if stored else self.trained_autoencoder.config.scale,
        )
        return model, objective

    def batches(self, start_step: int, *, part: tuple[int, int] = (0, 1)) -> tf.data.Dataset:
        """See `Job`."""
        return self.source().batches(start_step, part=part)

    def source(self) -> BatchSource:
        """The training examples and how they are drawn."""
        return self._drawing(self.encoded.condition)

    def _drawing(self, caption: str) -> BatchSource:
        """Draws latents and one of the tables of captions."""
        data, seed = self.encoded, self.training.seed
        return BatchSource(
            tables={"moments": data.moments, caption: data.captions[caption]},
            index=sampling_index(data.groups, resample=self.data.resample, seed=seed),
            batch_size=self.training.batch_size,
            seed=seed,
            variants=(caption,),
            augmentations=("moments",),
            null_rows={caption: data.empty[caption]},
            dropout=self.dropout,
        )

    def captions(self, step: int) -> list[str]:
        """See `Job`."""
        try:
            tokenizer = Tokenizer(fetch_merges(), context_length=len(self.encoded.empty["tokens"]))
        except FetchError:  # Training from a cache needs no tokenizer.
            return []
        return read_captions(self._drawing("tokens").at(step)["tokens"], tokenizer)

    def previews(self, model: UNet) -> dict[str, np.ndarray]:
        """Pictures for canonical captions spread evenly over the training set.

        None where there is a cache of latents without the networks that it was made with.
        """
        if self.latents and not all(map(os.path.isfile, self.weights.values())):
            return {}
        rows = np.linspace(0, len(self.encoded.groups) - 1, _SHOWN).astype(int)
        whole = self.assemble(model)
        noise = np.random.default_rng(self.training.seed)
        pictures = sample_pictures(
            whole,
            tokens=self.encoded.canonical(rows),
            null_tokens=self.encoded.empty["tokens"],
            steps=self.preview_steps,
            guidance=self.preview_guidance,
            noise=noise.standard_normal([len(rows), *whole.latent_shape], np.float32),
        )
        return {"samples": mosaic(pictures, columns=4)}

    def describe(self, model: UNet) -> dict[str, Any]:
        """See `Job`."""
        return describe(
            model,
            prediction=self.prediction,
            schedule=self.schedule.to_dict(),
            resolution=[self.data.resolution, self.data.resolution],
        )

    def assemble(self, model: UNet) -> LatentDiffusion:
        """The whole text-to-image model around `model`."""
        return LatentDiffusion(
            clip=self.trained_clip,
            unet=model,
            autoencoder=self.trained_autoencoder,
            schedule=NoiseSchedule(self.schedule),
            prediction=self.prediction,
            resolution=(self.data.resolution, self.data.resolution),
        )

    @property
    def weights(self) -> dict[str, str]:
        """The weight files that a UNet is trained with, by network."""
        return {"autoencoder": self.autoencoder, "clip": self.clip}

    @functools.cached_property
    def trained_clip(self) -> Clip:
        """CLIP, frozen."""
        clip = load_trained(self.clip, "clip").model
        if clip.config.text.width != self.model.context_width:
            raise ValueError(
                f"model.context_width is {self.model.context_width}, but the text encoder of "
                f"{self.clip} is {clip.config.text.width} wide"
            )
        clip.trainable = False
        return clip

    @functools.cached_property
    def trained_autoencoder(self) -> Autoencoder:
        """The autoencoder, frozen."""
        with computing_in("float32"):  # It makes the data, whatever the UNet computes in.
            autoencoder = load_trained(self.autoencoder, "autoencoder").model
        autoencoder.trainable = False
        return autoencoder

    @functools.cached_property
    def captioned(self) -> Captioned:
        """The pictures of the training set, for CLIP's text encoder."""
        return captioned(self.data, "train", self.trained_clip.config.text.context_length)

    @functools.cached_property
    def encoded(self) -> Latents:
        """The training set, from the cache or encoded now."""
        if self.latents:
            return open_latents(
                self.latents,
                data=self.data,
                context_width=self.model.context_width,
                weights=self.weights,
            )
        moments = moment_encoder(self.trained_autoencoder)(self.captioned.examples.images)
        return Latents(
            moments=moments.astype(np.float16)[:, np.newaxis],  # [N, 1, h, w, 2c]
            captions={"tokens": self.captioned.tokens},
            empty={"tokens": self.captioned.null_tokens},
            groups=self.captioned.examples.groups,
            scale=self.trained_autoencoder.config.scale,
        )


def load_job(workdir: str | os.PathLike) -> UNetJob:
    """Reads the config of a UNet run.

    Raises:
      WeightFileError: the folder is not that of a UNet run.
    """
    try:
        config = json.loads((pathlib.Path(workdir) / "config.json").read_text())
    except (OSError, ValueError) as error:
        raise WeightFileError(
            f"{workdir} is no run of tools/train.py: its config.json cannot be read ({error})"
        ) from error
    part = config.pop("part", None)
    if part != "unet":
        raise WeightFileError(f"{workdir} trained the {part}; the UNet's run is wanted")
    return UNetJob.from_dict(config)


def load_finished(workdir: str | os.PathLike) -> LatentDiffusion:
    """Loads a finished UNet run together with the autoencoder and CLIP that it was trained on.

    Args:
      workdir: folder of the UNet's run.

    Raises:
      WeightFileError: the run is not finished, or a weight file is missing or damaged.
    """
    job = load_job(workdir)
    return job.assemble(load_trained(pathlib.Path(workdir) / "weights.safetensors", "unet").model)
