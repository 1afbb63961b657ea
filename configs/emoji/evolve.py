"""The search for an efficient emoji UNet at 32 px (SnapFusion section 3.1, Algorithm 1).

    tools/train.py --config=configs/emoji/unet.py:search --workdir=runs/search/teacher
    tools/latency_table.py --unet=runs/search/teacher/config.json --latent=8x8 --tokens=24 \
      --output=runs/search/table.json
    tools/evolve.py --config=configs/emoji/evolve.py --workdir=runs/search/evolved

One run on two cores of an AMD EPYC kept busy by other work: 24 minutes, five rounds; 46 % of the
latency, CLIP score 0.811 in the first round and 0.809 in the last (docs/architecture.md).
"""

import ml_collections

from configs.emoji import unet
from configs.values import config_dict
from tfsnap.evolve.config import EvolveConfig
from tfsnap.training.config import OptimizerConfig

TEACHER = unet.VARIANTS["search"]

SEARCH = EvolveConfig(
    unet="runs/search/teacher/weights.safetensors",
    table="runs/search/table.json",
    robust=TEACHER.replace(
        run_probability=0.9,
        training=TEACHER.training.replace(
            steps=200,
            checkpoint_every=100,
            optimizer=OptimizerConfig(learning_rate=5e-4, warmup_steps=20, ema_decay=0.98),
        ),
    ),
)


def get_config() -> ml_collections.ConfigDict:
    return config_dict(None, SEARCH)
