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
from tfsnap.data.source import BatchSource
from tfsnap.diffusion.schedule import NoiseSchedule
from tfsnap.models.autoencoder import Autoencoder
from tfsnap.models.clip import Clip
from tfsnap.models.latent_diffusion import LatentDiffusion
from tfsnap.models.unet import UNet, build_unet
from tfsnap.objectives.denoise import Denoise
from tfsnap.training.config import TrainingConfig
from tfsnap.training.jobs.autoencoder import encode_moments
from tfsnap.training.jobs.inputs import Captioned, DataConfig, captioned
from tfsnap.training.pictures import mosaic
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
      model: the network; its context is as wide as CLIP's text tower.
      data: captioned pictures, which are encoded once, before the first step.
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
        objective = Denoise(
            text_encoder=self._clip.text_encoder,
            schedule=NoiseSchedule(self.schedule),
            prediction=self.prediction,
            scale=self._autoencoder.config.scale,
        )
        return build_unet(self.model), objective

    def batches(self, start_step: int) -> tf.data.Dataset:
        """See `Job`."""
        return self.source().batches(start_step)

    def source(self) -> BatchSource:
        """The training examples and how they are drawn."""
        train = self._captioned
        return BatchSource(
            tables={"moments": self._moments, "tokens": train.tokens},
            index=self.data.index(train.examples, self.training.seed),
            batch_size=self.training.batch_size,
            seed=self.training.seed,
            variants=("tokens",),
            null_rows={"tokens": train.null_tokens},
            dropout=self.dropout,
        )

    def previews(self, model: UNet) -> dict[str, np.ndarray]:
        """Pictures for canonical captions spread evenly over the training set."""
        rows = np.linspace(0, len(self._captioned.tokens) - 1, _SHOWN).astype(int)
        whole = self.assemble(model)
        noise = np.random.default_rng(self.training.seed)
        pictures = sample_pictures(
            whole,
            tokens=self._captioned.tokens[rows, 0],
            null_tokens=self._captioned.null_tokens,
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
            clip=self._clip,
            unet=model,
            autoencoder=self._autoencoder,
            schedule=NoiseSchedule(self.schedule),
            prediction=self.prediction,
            resolution=(self.data.resolution, self.data.resolution),
        )

    @functools.cached_property
    def _clip(self) -> Clip:
        clip = load_trained(self.clip, "clip").model
        if clip.config.text.width != self.model.context_width:
            raise ValueError(
                f"model.context_width is {self.model.context_width}, but the text encoder of "
                f"{self.clip} is {clip.config.text.width} wide"
            )
        clip.trainable = False
        return clip

    @functools.cached_property
    def _autoencoder(self) -> Autoencoder:
        autoencoder = load_trained(self.autoencoder, "autoencoder").model
        autoencoder.trainable = False
        return autoencoder

    @functools.cached_property
    def _captioned(self) -> Captioned:
        return captioned(self.data, "train", self._clip.config.text.context_length)

    @functools.cached_property
    def _moments(self) -> np.ndarray:
        """Latent moments of the training pictures, float16 [N, h, w, 2c]."""
        moments = encode_moments(self._autoencoder, self._captioned.examples.images)
        return moments.astype(np.float16)


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
