"""Training an efficient decoder on what the UNet generates."""

import dataclasses
import functools
import pathlib
from collections.abc import Iterator
from typing import Any, ClassVar

import numpy as np
import tensorflow as tf
import tf_keras as keras

from tfsnap.config import Config, ScheduleConfig, TinyDecoderConfig, differences
from tfsnap.data.shards import ShardError
from tfsnap.data.source import BatchSource
from tfsnap.models.autoencoder import Autoencoder, build_autoencoder
from tfsnap.models.latent_diffusion import Distilled
from tfsnap.objectives.decoder_distill import DecoderDistill
from tfsnap.training.config import TrainingConfig
from tfsnap.training.jobs.inputs import DataConfig
from tfsnap.training.jobs.latents import facts
from tfsnap.training.jobs.unet import UNetJob
from tfsnap.training.pictures import mosaic
from tfsnap.training.precision import computing_in
from tfsnap.training.sampling import guided, sample_latents
from tfsnap.weights.archive import Trained, describe, load_trained
from tfsnap.weights.slim_decoder import slim_decoder
from tfsnap.weights.store import addressed, assign, load_tensors, save_tensors

_TOGETHER = 32  # Latents that are sampled together.
_SHOWN = 8  # Pictures in a preview.


@dataclasses.dataclass(frozen=True)
class DecoderJob(Config):
    """Trains a smaller decoder for an autoencoder; the encoder stays.

    The examples are latents that the UNet generates from the captions of a set with fresh noise, so
    there is no end of them. They come in pools: a pool is sampled, used for `pool_steps` steps, and
    replaced. The weight file is an autoencoder's and takes the place of the teacher's anywhere.

    Attributes:
      autoencoder: weight file of the teacher.
      clip: weight file of CLIP, or of its text encoder alone.
      unet: weight file of the UNet that makes the latents.
      decoder_channels: widths of the new decoder, from the pixels to the latent; at first it has
        the teacher's strongest channels. None if the decoder is tiny.
      tiny_decoder: a decoder of another kind in its place, which starts afresh.
      data: whose captions are the prompts.
      training: length, batch and optimizer.
      edge_weight: see `DecoderDistill`; 0 in the paper.
      pool: latents in a pool.
      pool_steps: steps that a pool is used for; 0 uses the first one throughout.
      cache: folder in which pools are kept, so that a run that goes on does not sample them again;
        "" keeps none. Those of another config are refused.
      steps: DDIM steps of a latent: 50 in the paper.
      guidance: the guidance scale.
    """

    label: ClassVar[str] = "decoder"

    autoencoder: str = ""
    clip: str = ""
    unet: str = ""
    decoder_channels: tuple[int, ...] | None = (64, 128, 256, 256)
    tiny_decoder: TinyDecoderConfig | None = None
    data: DataConfig = DataConfig()
    training: TrainingConfig = TrainingConfig()
    edge_weight: float = 0.0
    pool: int = 2_048
    pool_steps: int = 1_000
    cache: str = ""
    steps: int = 50
    guidance: float = 7.5

    def __post_init__(self) -> None:
        one = (self.decoder_channels is None) != (self.tiny_decoder is None)
        self._require(one, "decoder_channels", "None with a tiny_decoder, and given without")
        self._require(self.pool >= 1, "pool", "at least 1")
        self._require(self.pool_steps >= 0, "pool_steps", "at least 0")
        self._require(self.steps >= 1, "steps", "at least 1")

    def build(self) -> tuple[keras.Model, DecoderDistill]:
        """See `Job`."""
        teacher = self.teacher.model
        small = teacher.config.replace(
            decoder_channels=self.decoder_channels, tiny_decoder=self.tiny_decoder
        )
        model = build_autoencoder(small)
        values = {name: v.numpy() for name, v in addressed(teacher.variables).items()}
        if self.tiny_decoder is None:
            values = slim_decoder(values, wide=teacher.config, narrow=small)
        else:
            values = _with_decoder(values, addressed(model.variables))
        assign(values, model.variables)
        model.encoder.trainable = False
        return model, DecoderDistill(teacher.decoder, self.edge_weight)

    def batches(self, start_step: int, *, part: tuple[int, int] = (0, 1)) -> tf.data.Dataset:
        """See `Job`."""
        if not self.pool_steps:
            return self.source().batches(start_step, part=part)
        self._latents(start_step // self.pool_steps)  # Here, where what is wrong is one line.

        def generate() -> Iterator[dict[str, np.ndarray]]:
            number, done = divmod(start_step, self.pool_steps)
            while True:
                batches = self.source(number).batches(done, part=part)
                yield from batches.take(self.pool_steps - done).as_numpy_iterator()
                number, done = number + 1, 0

        shape = [self.training.batch_size // part[1], *self._latent_shape]
        spec = {"latent": tf.TensorSpec(shape, tf.float32)}
        return tf.data.Dataset.from_generator(generate, output_signature=spec)

    def source(self, number: int | None = None) -> BatchSource:
        """The latents of a pool and how they are drawn.

        Args:
          number: of the pool; None for the only one, of which a compiled step takes its data.

        Raises:
          ValueError: the only one is wanted, and there are more.
        """
        if number is None and self.pool_steps:
            raise ValueError(
                f"pool_steps is {self.pool_steps}, but the data of a compiled step is one pool: it "
                "must be 0; make up for it with a larger pool"
            )
        number = number or 0
        return BatchSource(
            tables={"latent": self._latents(number)},
            index=np.arange(self.pool),
            batch_size=self.training.batch_size,
            seed=self.training.seed + number,
        )

    def captions(self, step: int) -> list[str]:
        """See `Job`: latents do not keep their captions."""
        return []

    def previews(self, model: Autoencoder) -> dict[str, np.ndarray]:
        """What the teacher makes of some latents, above what the new decoder does."""
        latents = self._sampled(0, _SHOWN)
        decoders = (self.teacher.model.decoder, model.decoder)
        pictures = [picture for decode in decoders for picture in decode(latents).numpy()]
        return {"teacher_and_student": mosaic(pictures, columns=len(latents))}

    def describe(self, model: Autoencoder) -> dict[str, Any]:
        """See `Job`."""
        return describe(model, **self.teacher.about)

    @functools.cached_property
    def teacher(self) -> Trained:
        """The autoencoder that is learnt from, frozen."""
        with computing_in("float32"):  # It makes what is learnt, whatever the student computes in.
            found = load_trained(self.autoencoder, "autoencoder")
        found.model.trainable = False
        return found

    @property
    def _latent_shape(self) -> tuple[int, int, int]:
        config = self.teacher.model.config
        side = self.data.resolution // config.downsampling
        return side, side, config.latent_channels

    @functools.lru_cache(maxsize=1)  # noqa: B019 - a job lives as long as its process.
    def _latents(self, number: int) -> np.ndarray:
        """A pool, float32 [pool, h, w, c], not scaled; from the cache if it is there."""
        path = pathlib.Path(self.cache) / f"pool-{number:06d}.safetensors"
        if self.cache and path.is_file():
            tensors, about = load_tensors(path)
            changed = differences(about.get("made", {}), self._made)
            if changed:
                raise ShardError(
                    f"{path} was sampled for another config: {'; '.join(changed[:4])}; choose "
                    "another config.cache, or remove this one"
                )
            return tensors["latent"]
        print(f"decoder: sampling {self.pool} latents in {self.steps} steps", flush=True)
        latents = self._sampled(number, self.pool)
        if self.cache:
            save_tensors(path, {"latent": latents}, {"made": self._made})
        return latents

    @functools.cached_property
    def _made(self) -> dict[str, Any]:
        """What pools depend on, besides their numbers."""
        weights = {"autoencoder": self.autoencoder, "clip": self.clip, "unet": self.unet}
        about = facts(self.data, augmentations=1, weights=weights)
        sampling = {name: getattr(self, name) for name in ("pool", "steps", "guidance")}
        return {**about, **sampling, "seed": self.training.seed}

    def _sampled(self, number: int, count: int) -> np.ndarray:
        """Latents for captions drawn by the seed and a number, float32 [count, h, w, c]."""
        trained = load_trained(self.unet, "unet")
        prediction = trained.about["prediction"]
        job = UNetJob(
            autoencoder=self.autoencoder,
            clip=self.clip,
            model=trained.model.config,
            data=self.data,
            schedule=ScheduleConfig.from_dict(trained.about["schedule"]),
            prediction=prediction,
        )
        whole = job.assemble(trained.model, Distilled.of(trained.about))
        found = job.captioned("train")
        text = whole.text_encoder
        rng = np.random.default_rng([self.training.seed, number])
        rows = rng.integers(len(found.tokens), size=count)
        evaluate = guided(trained.model, whole.scale_of(self.guidance))
        null = np.broadcast_to(found.null_tokens, [_TOGETHER, len(found.null_tokens)])
        parts = []
        for start in range(0, count, _TOGETHER):
            noise = rng.standard_normal([_TOGETHER, *whole.latent_shape], np.float32)
            tokens = np.resize(found.tokens[rows[start : start + _TOGETHER], 0], null.shape)
            latent = sample_latents(
                evaluate,
                context=text(tf.constant(np.concatenate([tokens, null]))),  # [2N, T, C]
                noise=tf.constant(noise),
                schedule=whole.schedule,
                prediction=prediction,
                steps=self.steps,
                sampler=whole.sampler,
            )
            parts.append(latent.numpy() / np.float32(whole.autoencoder.config.scale))
        return np.concatenate(parts)[:count]


def _with_decoder(
    teacher: dict[str, np.ndarray], student: dict[str, tf.Variable]
) -> dict[str, np.ndarray]:
    """A student's values: its own in the decoder, the teacher's around it."""
    return {
        name: own.numpy() if name.startswith("decoder.") else teacher[name]
        for name, own in student.items()
    }
