"""The UNet of pictures of your own, with v-prediction (SnapFusion eq. 1; paper section 4).

    tools/train.py --config=configs/photos/unet.py --workdir=runs/photos/unet

Reads the set that tools/prepare_data.py --output=data/photos made; docs/training.md has the cost
and the result, measured.
"""

import ml_collections

from configs.values import variant_dict
from tfsnap.config import StageConfig, UNetConfig
from tfsnap.training.config import OptimizerConfig, TrainingConfig
from tfsnap.training.jobs import UNetJob
from tfsnap.training.jobs.inputs import DataConfig

JOB = UNetJob(
    autoencoder="runs/photos/autoencoder/weights.safetensors",
    clip="runs/photos/clip/weights.safetensors",
    model=UNetConfig(
        down=(StageConfig(64, 1, 0), StageConfig(128, 1, 1), StageConfig(192, 1, 1)),
        mid=StageConfig(192, 1, 1),
        up=(StageConfig(192, 2, (1, 0)), StageConfig(128, 2, (1, 0)), StageConfig(64, 2, 0)),
        context_width=128,
        heads=4,
    ),
    data=DataConfig(dataset="data/photos", caption_variants=1),
    training=TrainingConfig(
        steps=1_600,
        batch_size=32,
        log_every=50,
        checkpoint_every=250,
        optimizer=OptimizerConfig(learning_rate=1e-3, warmup_steps=100, ema_decay=0.998),
    ),
    prediction="v",
)


VARIANTS = {"full": JOB}


def get_config(variant: str = "full") -> ml_collections.ConfigDict:
    return variant_dict("unet", VARIANTS, variant)
