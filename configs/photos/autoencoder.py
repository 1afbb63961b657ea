"""The autoencoder of pictures of your own: 64 px to 16 x 16 latents (paper section 2).

    tools/train.py --config=configs/photos/autoencoder.py --workdir=runs/photos/autoencoder

Reads the set that tools/prepare_data.py --output=data/photos made; docs/training.md has the cost
and the result, measured.
"""

import ml_collections

from configs.values import config_dict
from tfsnap.config import AutoencoderConfig
from tfsnap.training.config import OptimizerConfig, TrainingConfig
from tfsnap.training.jobs import AutoencoderJob
from tfsnap.training.jobs.inputs import DataConfig

JOB = AutoencoderJob(
    model=AutoencoderConfig(channels=(24, 48, 96), groups=8, resnets=1),
    data=DataConfig(dataset="data/photos"),
    training=TrainingConfig(
        steps=1_200,
        batch_size=8,
        jit_compile=True,
        checkpoint_every=200,
        optimizer=OptimizerConfig(learning_rate=2e-3, warmup_steps=100, ema_decay=0.99),
    ),
)


def get_config() -> ml_collections.ConfigDict:
    return config_dict("autoencoder", JOB)
