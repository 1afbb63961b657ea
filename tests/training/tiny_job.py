"""A small job on synthetic data: fast, and with every ingredient of a real one."""

import dataclasses
import functools
from typing import ClassVar

import numpy as np
import tensorflow as tf
import tf_keras as keras

from tfsnap.config import ClipTextConfig, StageConfig, UNetConfig
from tfsnap.diffusion.schedule import NoiseSchedule
from tfsnap.models.clip import build_text_encoder
from tfsnap.models.unet import build_unet
from tfsnap.objectives.denoise import Denoise
from tfsnap.training.config import OptimizerConfig, TrainingConfig
from tfsnap.training.strategy import make_strategy
from tfsnap.weights.archive import describe

# One of each in a process: TensorFlow numbers the reductions of every strategy from 100 on, and
# takes those of a second one for the first one's.
shared_strategy = functools.cache(make_strategy)

UNET = UNetConfig(
    down=(StageConfig(8, 1, 1),),
    mid=StageConfig(8, 1, 0),
    up=(StageConfig(8, 2, 0),),
    context_width=8,
    heads=2,
    groups=4,
)
TEXT = ClipTextConfig(vocab_size=32, context_length=4, width=8, layers=1, heads=2)
TRAINING = TrainingConfig(
    steps=6,
    batch_size=8,
    log_every=2,
    checkpoint_every=3,
    optimizer=OptimizerConfig(learning_rate=1e-2, warmup_steps=2, ema_decay=0.5),
)


class Dense(keras.Model):
    """A network that is traced in no time, for tests of what is around it."""

    def __init__(self):
        super().__init__(name="dense")
        self.layer = keras.layers.Dense(3, name="layer")

    def call(self, x):
        return self.layer(x)


@dataclasses.dataclass(frozen=True)
class FitNoise:
    """Fits noise of the step's draws."""

    separable: ClassVar[bool] = True

    def __call__(self, model, batch, draws):
        error = tf.cast(model(batch["x"]), tf.float32) - draws.normal([3], stream=0)
        return tf.reduce_mean(tf.square(error), axis=-1), {}


@dataclasses.dataclass(frozen=True)
class TinyJob:
    """Denoises random latents."""

    training: TrainingConfig = TRAINING
    label: str = "tiny"
    spoiled_step: int | None = None  # Its batch holds a NaN.

    def build(self):
        return build_unet(UNET), Denoise(build_text_encoder(TEXT), NoiseSchedule(), "v", scale=0.5)

    def batch(self, step):
        rng = np.random.default_rng(step)
        moments = rng.standard_normal([self.training.batch_size, 4, 4, 8]).astype(np.float32)
        if step == self.spoiled_step:
            moments[0, 0, 0, 0] = np.nan
        tokens = rng.integers(0, 32, [self.training.batch_size, 4]).astype(np.int32)
        return {"moments": moments, "tokens": tokens}

    def batches(self, start_step, *, part=(0, 1)):
        steps = range(start_step, self.training.steps + 2)
        batches = [self.batch(step) for step in steps]
        rows = self.training.batch_size // part[1]
        own = slice(part[0] * rows, (part[0] + 1) * rows)
        tables = {name: np.stack([batch[name][own] for batch in batches]) for name in batches[0]}
        return tf.data.Dataset.from_tensor_slices(tables)

    def previews(self, model):
        return {"grid": np.zeros([4, 4, 3], np.uint8)}

    def captions(self, step):
        return [f"row {row} of step {step}" for row in range(self.training.batch_size)]

    def describe(self, model):
        return describe(model, prediction="v")


@dataclasses.dataclass(frozen=True)
class DenseJob(TinyJob):
    """Trains `Dense`."""

    def build(self):
        model = Dense()
        model(tf.zeros([1, 4]))
        return model, FitNoise()

    def batch(self, step):
        rng = np.random.default_rng(step)
        x = rng.standard_normal([self.training.batch_size, 4]).astype(np.float32)
        if step == self.spoiled_step:
            x[0, 0] = np.nan
        return {"x": x}

    def describe(self, model):
        return {}
