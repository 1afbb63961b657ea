"""The autoencoder of pictures of your own: that of the 64 px emoji, tuned a little.

    tools/train.py --config=configs/photos/autoencoder.py --workdir=runs/photos/autoencoder

Reads the set that tools/prepare_data.py --output=data/photos made; docs/training.md has the cost
and the result, measured.
"""

import ml_collections

from configs.values import variant_dict
from tfsnap.config import AutoencoderConfig
from tfsnap.training.config import OptimizerConfig, TrainingConfig
from tfsnap.training.jobs import AutoencoderJob
from tfsnap.training.jobs.inputs import DataConfig

JOB = AutoencoderJob(
    model=AutoencoderConfig(channels=(64, 128, 128), groups=32, resnets=1),
    data=DataConfig(dataset="data/photos"),
    training=TrainingConfig(
        steps=150,
        batch_size=8,
        init="tfsnap/presets/emoji-64/autoencoder.safetensors",
        log_every=10,
        checkpoint_every=50,
        optimizer=OptimizerConfig(learning_rate=2e-4, warmup_steps=10, ema_decay=0.95),
    ),
)


VARIANTS = {"full": JOB}


def get_config(variant: str = "full") -> ml_collections.ConfigDict:
    return variant_dict("autoencoder", VARIANTS, variant)
