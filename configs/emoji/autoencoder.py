"""The autoencoder of the emoji models (SnapFusion keeps Stable Diffusion's; paper section 2).

    tools/train.py --config=configs/emoji/autoencoder.py:demo --workdir=runs/demo/autoencoder

Variants: `full` is 64 px on all emoji; `demo` is 32 px on the demo's subset, part of `make demo`:
PSNR 25.9 dB on the 18 pictures of validation and holdout (`tools/evaluate.py
--workdir=runs/demo/autoencoder --split=validation+holdout`), 1:07 minutes on two cores of an AMD
EPYC, one run.

`full` was run on one H100 with the portable step (docs/portable.md),

    tools/compile_step.py --config=configs/emoji/autoencoder.py --output=step
    tools/run_step.py step --workdir=runs/emoji/autoencoder

once, with version 1.0.0 of the data: 8,000 steps in 2 minutes, 68 a second.
`tfsnap/presets/emoji-64` has the weights in float16: PSNR 34.0 dB on the 744 validation pictures of
version 3.0.0 and, with --split=holdout, 34.3 dB on those 703,

    tools/evaluate.py --weights=tfsnap/presets/emoji-64/autoencoder.safetensors --dataset=emoji
"""

import ml_collections

from configs.emoji.subset import demo_data
from configs.values import variant_dict
from tfsnap.config import AutoencoderConfig
from tfsnap.training.config import OptimizerConfig, TrainingConfig
from tfsnap.training.jobs import AutoencoderJob
from tfsnap.training.jobs.inputs import DataConfig

VARIANTS = {
    "full": AutoencoderJob(
        model=AutoencoderConfig(channels=(64, 128, 128), groups=32, resnets=1),
        data=DataConfig(resolution=64),
        training=TrainingConfig(
            steps=8_000,
            batch_size=64,
            log_every=100,
            checkpoint_every=1_000,
            preview_every=2_000,
            optimizer=OptimizerConfig(learning_rate=4e-4, warmup_steps=500),
        ),
    ),
    "demo": AutoencoderJob(
        model=AutoencoderConfig(channels=(16, 32, 64), groups=8, resnets=1),
        data=demo_data(),
        training=TrainingConfig(
            steps=500,
            batch_size=16,
            jit_compile=True,
            checkpoint_every=250,
            optimizer=OptimizerConfig(learning_rate=2e-3, warmup_steps=50, ema_decay=0.99),
        ),
    ),
}


def get_config(variant: str = "full") -> ml_collections.ConfigDict:
    return variant_dict("autoencoder", VARIANTS, variant)
