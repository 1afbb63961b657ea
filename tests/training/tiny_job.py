"""A small job on synthetic data: fast, and with every ingredient of a real one."""

import dataclasses

import numpy as np
import tensorflow as tf

from tfsnap.config import ClipTextConfig, StageConfig, UNetConfig
from tfsnap.diffusion.schedule import NoiseSchedule
from tfsnap.models.clip import build_text_encoder
from tfsnap.models.unet import build_unet
from tfsnap.objectives.denoise import Denoise
from tfsnap.training.config import OptimizerConfig, TrainingConfig
from tfsnap.weights.archive import describe

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

    def batches(self, start_step):
        steps = range(start_step, self.training.steps + 2)
        rows = [self.batch(step) for step in steps]
        tables = {name: np.stack([row[name] for row in rows]) for name in rows[0]}
        return tf.data.Dataset.from_tensor_slices(tables)

    def previews(self, model):
        return {"grid": np.zeros([4, 4, 3], np.uint8)}

    def describe(self, model):
        return describe(model, prediction="v")
