"""Training the UNet on the latents of captioned pictures."""

import dataclasses
import functools
import os
from collections.abc import Mapping
from typing import Any, ClassVar, TypeVar

import numpy as np
import tensorflow as tf
import tf_keras as keras

from tfsnap.config import ClipTextConfig, Config, ScheduleConfig, UNetConfig, differences
from tfsnap.data.augment import AugmentConfig
from tfsnap.data.buckets import BucketSource
from tfsnap.data.fetch import FetchError, fetch_merges
from tfsnap.data.prepared.framing import Shape
from tfsnap.data.shuffle import sampling_index
from tfsnap.data.source import BatchSource
from tfsnap.diffusion.paths import LCM_TRAINING_STEPS
from tfsnap.diffusion.schedule import NoiseSchedule
from tfsnap.models.autoencoder import Autoencoder
from tfsnap.models.clip import Clip, TextEncoder
from tfsnap.models.latent_diffusion import STEPS, Distilled, LatentDiffusion
from tfsnap.models.unet import UNet, build_unet
from tfsnap.objectives.consistency import Consistency
from tfsnap.objectives.denoise import Denoise
from tfsnap.objectives.robust import Robust
from tfsnap.objectives.step_distill import StepDistill
from tfsnap.tokenizer import Tokenizer
from tfsnap.training.config import TrainingConfig
from tfsnap.training.jobs.autoencoder import moment_encoder
from tfsnap.training.jobs.distill import DistillConfig
from tfsnap.training.jobs.inputs import (
    Captioned,
    DataConfig,
    captioned,
    captioned_shapes,
    empty_prompt,
    read_captions,
)
from tfsnap.training.jobs.latents import Latents, open_latents
from tfsnap.training.lora import LoraConfig, LoraUNet
from tfsnap.training.pictures import mosaic
from tfsnap.training.precision import computing_in
from tfsnap.training.sampling import sample_pictures
from tfsnap.weights.archive import Trained, describe, load_trained

_SHOWN = 16  # Prompts in a preview.

T = TypeVar("T")


@dataclasses.dataclass(frozen=True)
class UNetJob(Config):
    """Trains the denoiser; the autoencoder and CLIP are finished and frozen.

    Attributes:
      autoencoder: weight file of the autoencoder.
      clip: weight file of CLIP, or of its text encoder alone.
      latents: folder of a cache of latents, see `tfsnap.training.jobs.encoding`. Training then
        reads neither pictures nor the autoencoder nor, if the cache has its embeddings, CLIP;
        their weight files are needed for previews only.
      model: the network; its context is as wide as CLIP's text tower.
      data: captioned pictures; without a cache they are encoded once, before the first step.
      training: length, batch and optimizer.
      schedule: the noise schedule.
      prediction: "epsilon" or "v".
      lora: trains a low-rank adaptation of a network instead of a network; `model` is then that of
        its weight file.
      distill: learns the steps of another network, see `tfsnap.training.jobs.distill`.
      run_probability: p of robust training, see `tfsnap.objectives.robust`; 1 runs all blocks.
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
    lora: LoraConfig = LoraConfig()
    distill: DistillConfig = DistillConfig()
    run_probability: float = 1.0
    dropout: float = 0.1
    preview_steps: int = 20
    preview_guidance: float = 3.0

    def __post_init__(self) -> None:
        # Here, as pictures are first drawn when hours of training may be over.
        most = self.schedule.steps
        if self.distill.consistency:  # Its sampler has no more.
            most = min(most, LCM_TRAINING_STEPS)
        fits = 1 <= self.preview_steps <= most
        self._require(fits, "preview_steps", f"between 1 and {most}")

    def build(self) -> tuple[keras.Model, Denoise | StepDistill | Consistency | Robust]:
        """See `Job`."""
        self._require_read()
        model = self._network()  # First: its weights depend on the seed and nothing else.
        # Without a cache the data waits: a run that only lacks its weights never needs it.
        stored = _any(self.encoded) if self.latents else None
        ready = stored is not None and stored.condition == "context"
        objective = Denoise(
            text_encoder=None if ready else self.text_encoder,
            schedule=NoiseSchedule(self.schedule),
            prediction=self.prediction,
            scale=stored.scale if stored else self.trained_autoencoder.config.scale,
        )
        if self.distill.teacher:
            null = stored.empty["context"] if ready else self._null_context()
            objective = self.distill.objective(
                objective,
                self._teacher,
                tf.constant(null),
                conditioned=self.model.guidance_width is not None,
            )
        if self.run_probability == 1.0:
            return model, objective
        return model, Robust(objective, self.run_probability)

    def _require_read(self) -> None:
        """Fields that say what to do where nothing does it would be lost without a word."""
        for section, switch, what in (
            (self.distill, "distill.teacher", "nothing is distilled"),
            (self.lora, "lora.rank", "the network itself is trained"),
        ):
            name, _, field = switch.partition(".")
            if not getattr(section, field):
                default = {name: type(section)().to_dict()}
                changed = differences(default, {name: section.to_dict()})
                if changed:
                    raise ValueError(
                        f"{switch} is {getattr(section, field)!r}, so {what}, but "
                        f"{'; '.join(changed)}: set {switch}, or leave the others as they are"
                    )

    @functools.cached_property
    def _teacher(self) -> Trained:
        found = self.distill.load_teacher()
        self._require_like_mine(self.distill.teacher, found)
        return found

    def _require_like_mine(self, path: str, found: Trained) -> None:
        """Another network says nothing of other latents, captions or times than its own."""
        schedule, sizes = self.schedule.to_dict(), ("in_channels", "out_channels", "context_width")
        theirs, mine = (
            {"model": {size: getattr(config, size) for size in sizes}, "schedule": times}
            for config, times in (
                (found.model.config, found.about.get("schedule", schedule)),
                (self.model, schedule),
            )
        )
        changed = differences(theirs, mine)
        if changed:
            raise ValueError(
                f"{path} was trained for something else than the config says: {'; '.join(changed)}"
            )

    @property
    def _distilled(self) -> Distilled | None:
        if not self.distill.teacher:
            return None
        found = self.distill.result(self._teacher)
        # All times of the schedule are where a student learns, no path for a sampler.
        return found._replace(steps=STEPS) if found.steps == self.schedule.steps else found

    def _null_context(self) -> np.ndarray:
        """Text embedding of the empty prompt, float32 [T, C]."""
        tokens = empty_prompt(*self._tokens)
        return self.text_encoder(tf.constant(tokens[None])).numpy()[0]

    def _network(self) -> UNet | LoraUNet:
        if not self.lora.rank:
            return build_unet(self.model)
        return LoraUNet(self.lora_base().model, self.lora)

    def lora_base(self) -> Trained:
        """The network that is adapted, and what its file says of it.

        Raises:
          ValueError: it is not named, or not of the shape that the config says.
          WeightFileError: its file is missing or damaged.
        """
        if not self.lora.base:
            raise ValueError(
                f"lora.rank is {self.lora.rank}, but lora.base is empty; name the weight file of "
                "the UNet that is to be adapted"
            )
        found = load_trained(self.lora.base, "unet")
        changed = differences(self.model.to_dict(), found.model.config.to_dict())
        if changed:
            raise ValueError(f"{self.lora.base} is not config.model: {'; '.join(changed[:4])}")
        told = found.about.get("prediction", self.prediction)
        if told != self.prediction:
            raise ValueError(f"{self.lora.base} predicts {told}, config.prediction says otherwise")
        self._require_like_mine(self.lora.base, found)
        found.model.trainable = False
        return found

    def batches(self, start_step: int, *, part: tuple[int, int] = (0, 1)) -> tf.data.Dataset:
        """See `Job`."""
        source = self.source()
        if isinstance(source, BucketSource) and self.training.steps_per_call > 1:
            raise ValueError(
                f"training.steps_per_call is {self.training.steps_per_call}, but the pictures of "
                f"{self.data.dataset} have several shapes: it must be 1"
            )
        return source.batches(start_step, part=part)

    def source(self) -> BatchSource | BucketSource:
        """The training examples and how they are drawn; buckets where they have several shapes."""
        return self._drawing(_any(self.encoded).condition)

    def _drawing(self, caption: str) -> BatchSource | BucketSource:
        """Draws latents and one of the tables of captions."""
        sources = {shape: self._drawing_from(data, caption) for shape, data in self.encoded.items()}
        return _any(sources) if len(sources) == 1 else BucketSource(sources, self.training.seed)

    def _drawing_from(self, data: Latents, caption: str) -> BatchSource:
        seed = self.training.seed
        if self.data.augment != AugmentConfig() and data.moments.shape[1] == 1:
            raise ValueError(
                "data.augment changes nothing here, as pictures are encoded once, before training: "
                "encode several of each, tools/prepare_data.py --config=... --latents=FOLDER "
                "--augmentations=N, and set latents to that folder; or leave data.augment as it is"
            )
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
            empty = _any(self.encoded).empty["tokens"]
            size = int(empty[1]) + 1  # Its end token is the vocabulary's last.
            tokenizer = Tokenizer(fetch_merges(), context_length=len(empty), vocab_size=size)
        except FetchError:  # Training from a cache needs no tokenizer.
            return []
        return read_captions(self._drawing("tokens").at(step)["tokens"], tokenizer)

    def previews(self, model: UNet) -> dict[str, np.ndarray]:
        """Pictures for canonical captions spread evenly over the training set.

        None where there is a cache of latents without the networks that it was made with.
        """
        if self.latents and not all(map(os.path.isfile, self.weights.values())):
            return {}
        data = _any(self.encoded)
        rows = np.linspace(0, len(data.groups) - 1, _SHOWN).astype(int)
        whole = self.assemble(model, self._distilled)
        noise = np.random.default_rng(self.training.seed)
        pictures = sample_pictures(
            whole,
            tokens=data.canonical(rows),
            null_tokens=data.empty["tokens"],
            steps=self.preview_steps,
            guidance=self.preview_guidance,
            noise=noise.standard_normal([len(rows), *whole.latent_shape], np.float32),
        )
        return {"samples": mosaic(pictures, columns=4)}

    def describe(self, model: UNet | LoraUNet) -> dict[str, Any]:
        """See `Job`."""
        more = model.about() if isinstance(model, LoraUNet) else {}
        if self._distilled:
            more["distilled"] = self._distilled._asdict()
        return describe(
            model,
            **more,
            prediction=self.prediction,
            schedule=self.schedule.to_dict(),
            resolution=[self.data.resolution, self.data.resolution],
        )

    def assemble(self, model: UNet, distilled: Distilled | None = None) -> LatentDiffusion:
        """The whole text-to-image model around `model`; `distilled` is what it was made for."""
        return LatentDiffusion(
            text_encoder=self.text_encoder,
            clip=self.trained_clip,
            unet=model,
            autoencoder=self.trained_autoencoder,
            schedule=NoiseSchedule(self.schedule),
            prediction=self.prediction,
            resolution=(self.data.resolution, self.data.resolution),
            pad_token=self._tokens[1],
            distilled=distilled,
        )

    @property
    def weights(self) -> dict[str, str]:
        """The weight files that a UNet is trained with, by network."""
        return {"autoencoder": self.autoencoder, "clip": self.clip}

    @functools.cached_property
    def _conditioner(self) -> Trained:
        """What the weight file of CLIP holds, frozen."""
        with computing_in("float32"):  # As `trained_autoencoder`.
            found = load_trained(self.clip, "clip", "text_encoder")
        model = found.model
        text = model.text_encoder if isinstance(model, Clip) else model
        if text.config.width != self.model.context_width:
            raise ValueError(
                f"model.context_width is {self.model.context_width}, but the text encoder of "
                f"{self.clip} is {text.config.width} wide"
            )
        model.trainable = False
        return found

    @property
    def trained_clip(self) -> Clip | None:
        """CLIP, frozen; None where there is its text encoder only."""
        model = self._conditioner.model
        return model if isinstance(model, Clip) else None

    @property
    def text_encoder(self) -> TextEncoder:
        """What conditions the UNet, frozen."""
        return self.trained_clip.text_encoder if self.trained_clip else self._conditioner.model

    def captioned(self, split: str) -> Captioned:
        """Square pictures of a split with their captions, as the text encoder reads them."""
        return captioned(self.data, split, *self._tokens)

    @property
    def _tokens(self) -> tuple[ClipTextConfig, int]:
        """Who reads a row of tokens, and what fills it."""
        about = self._conditioner.about
        return self.text_encoder.config, about.get("pad_token", 0)

    def tokens(self) -> list[int]:
        """What the tokens of a caption depend on: their number, the vocabulary's size, padding."""
        reader, pad = self._tokens
        return [reader.context_length, reader.vocab_size, pad]

    @functools.cached_property
    def trained_autoencoder(self) -> Autoencoder:
        """The autoencoder, frozen."""
        with computing_in("float32"):  # It makes the data, whatever the UNet computes in.
            autoencoder = load_trained(self.autoencoder, "autoencoder").model
        autoencoder.trainable = False
        return autoencoder

    @functools.cached_property
    def pictures(self) -> dict[Shape, Captioned]:
        """The pictures of the training set by shape, with captions for CLIP's text encoder.

        Raises:
          ValueError: the networks cannot halve the sides of a shape as often as they do.
        """
        found = captioned_shapes(self.data, "train", *self._tokens)
        side = self.trained_autoencoder.config.downsampling * self.model.downsampling
        for height, width in found:
            if height % side or width % side:
                raise ValueError(
                    f"pictures of {height} x {width} pixels cannot be trained on: the autoencoder "
                    f"and the UNet need sides that are multiples of {side}. Prepare the set with "
                    f"such a --resolution, and with --buckets also --bucket_step={side}"
                )
        return found

    @functools.cached_property
    def encoded(self) -> dict[Shape, Latents]:
        """The training set by the shape of its pictures, from the cache or encoded now."""
        if self.latents:
            square = (self.data.resolution, self.data.resolution)
            stored = open_latents(
                self.latents,
                data=self.data,
                context_width=self.model.context_width,
                weights=self.weights,
                tokens=self.tokens,
            )
            return {square: stored}
        return {shape: self._encode(pictures) for shape, pictures in self.pictures.items()}

    def _encode(self, pictures: Captioned) -> Latents:
        moments = moment_encoder(self.trained_autoencoder)(pictures.examples.images)
        return Latents(
            moments=moments.astype(np.float16)[:, np.newaxis],  # [N, 1, h, w, 2c]
            captions={"tokens": pictures.tokens},
            empty={"tokens": pictures.null_tokens},
            groups=pictures.examples.groups,
            scale=self.trained_autoencoder.config.scale,
        )


def _any(by_shape: Mapping[Shape, T]) -> T:
    """What belongs to the first shape, where it is the same for all or an example will do."""
    return next(iter(by_shape.values()))
