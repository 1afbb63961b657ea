"""CLIP on pictures of your own: its text tower conditions the UNet.

    tools/train.py --config=configs/photos/clip.py --workdir=runs/photos/clip

Reads the set that tools/prepare_data.py --output=data/photos made; docs/training.md has the cost
and the result, measured.
"""

import ml_collections

from configs.values import variant_dict
from tfsnap.config import ClipConfig, ClipImageConfig, ClipTextConfig
from tfsnap.data.augment import AugmentConfig
from tfsnap.training.config import OptimizerConfig, TrainingConfig
from tfsnap.training.jobs import ClipJob
from tfsnap.training.jobs.inputs import DataConfig

JOB = ClipJob(
    model=ClipConfig(
        text=ClipTextConfig(context_length=32, width=128, layers=2, heads=4),
        image=ClipImageConfig(resolution=64, patch=8, width=128, layers=3, heads=4),
        embedding_width=128,
    ),
    data=DataConfig(
        dataset="data/photos", caption_variants=1, augment=AugmentConfig(translation=0.1, zoom=0.1)
    ),
    training=TrainingConfig(
        steps=400,
        batch_size=64,
        checkpoint_every=100,
        optimizer=OptimizerConfig(
            learning_rate=1e-3, warmup_steps=30, weight_decay=0.1, ema_decay=0.98
        ),
    ),
)


VARIANTS = {"full": JOB}


def get_config(variant: str = "full") -> ml_collections.ConfigDict:
    return variant_dict("clip", VARIANTS, variant)
