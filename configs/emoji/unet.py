"""The emoji teacher UNet, trained on latents (SnapFusion eq. 1; paper section 4 for v-prediction).

    tools/train.py --config=configs/emoji/unet.py:demo --workdir=runs/demo/unet \
      --config.autoencoder=runs/demo/autoencoder/weights.safetensors \
      --config.clip=runs/demo/clip/weights.safetensors

Variants: `full` is 64 px on all emoji; `demo` is 32 px on the demo's subset, part of `make demo`,
whose README section has the measured result; `search` is 32 px on the same subset, with as many
blocks in a stage as Stable Diffusion: what `configs/emoji/evolve.py` starts from.

`full` reads a cache of latents, 57 MB, so that it needs no pictures; `finetuned` is the network
that `configs/emoji/evolve.py:full` found, from the weights that the search left. The first command
takes a minute or two on two cores of an AMD EPYC:

    tools/prepare_data.py --config=configs/emoji/unet.py --latents=runs/emoji/latents \
      --embeddings=false
    tools/compile_step.py --config=configs/emoji/unet.py --output=step \
      --config.latents=runs/emoji/latents
    tools/run_step.py step --workdir=runs/emoji/unet
    tools/train.py --config=configs/emoji/unet.py:finetuned --workdir=runs/emoji/finetuned \
      --unet=tfsnap/presets/emoji-64/evolved.json --config.latents=runs/emoji/latents \
      --config.training.init=runs/emoji/evolved/round-02/edited.safetensors

`cut` is a network of that shape without a search, 14 minutes on two cores of an AMD EPYC: what is
left of the teacher's blocks, trained on for a little.

    tools/edit_unet.py --weights=tfsnap/presets/emoji-64/teacher/weights.safetensors \
      --to=tfsnap/presets/emoji-64/evolved.json --output=runs/emoji/cut.safetensors
    tools/train.py --config=configs/emoji/unet.py:cut --workdir=runs/emoji/cut \
      --unet=tfsnap/presets/emoji-64/evolved.json

`epsilon` is `full` before it predicts v, for two thirds of its steps; `finetuned` from it, at the
teacher's shape, takes the rest (`configs/emoji/pipeline.py:full_from_epsilon`).

What they came to: one run each on one H100 as a portable step, with version 1.0.0 of the data, and
how many of 500 validation captions CLIP finds in 8 steps with guidance 2 in int8 (errors are near
2; docs/distillation.md). `full`, 142 s at 64 steps/s: 84.2 %, and after `mended.py:unet` trained it
on, on version 3.0.0 by another CLIP, 77.4 %, as README's table has it. `finetuned`, 34 s at 88
steps/s: 82.4 %. `epsilon` and `finetuned` from it, 101 and 50 s: 83.2 %. `cut`: a CLIP score of
0.656 by the CLIP of now.

`full` has 8.7 million parameters, 457 MMACs (`tools/profile.py`), with as many ResNets in a stage
as Stable Diffusion and fewer attentions on the largest map, for the search to choose from.
"""

import ml_collections

from configs.emoji.short import short
from configs.emoji.subset import demo_data
from configs.values import variant_dict
from tfsnap.config import StageConfig, UNetConfig
from tfsnap.training.config import OptimizerConfig, TrainingConfig
from tfsnap.training.jobs import UNetJob
from tfsnap.training.jobs.inputs import DataConfig

DEMO = UNetJob(
    autoencoder="runs/demo/autoencoder/weights.safetensors",
    clip="runs/demo/clip/weights.safetensors",
    model=UNetConfig(
        down=(StageConfig(64, 1, 0), StageConfig(128, 2, 2)),
        mid=StageConfig(128, 1, 1),
        up=(StageConfig(128, 3, (1, 1, 0)), StageConfig(64, 2, 0)),
        context_width=128,
        heads=4,
        groups=16,
    ),
    data=demo_data(),
    training=TrainingConfig(
        steps=450,
        batch_size=48,
        jit_compile=True,
        checkpoint_every=150,
        optimizer=OptimizerConfig(learning_rate=2e-3, warmup_steps=50, ema_decay=0.99),
    ),
    prediction="v",
)

FULL = UNetJob(
    autoencoder="tfsnap/presets/emoji-64/autoencoder.safetensors",
    clip="tfsnap/presets/emoji-64/clip.safetensors",
    model=UNetConfig(
        down=(StageConfig(64, 2, (1, 0)), StageConfig(96, 2, 2), StageConfig(128, 2, 2)),
        mid=StageConfig(128, 2, (1, 0)),
        up=(StageConfig(128, 3, 3), StageConfig(96, 3, 3), StageConfig(64, 3, (1, 0, 0))),
        context_width=192,
        heads=2,
        groups=16,
    ),
    data=DataConfig(resolution=64),
    training=TrainingConfig(
        steps=9_000,
        batch_size=256,
        precision="bfloat16",
        log_every=100,
        checkpoint_every=250,
        optimizer=OptimizerConfig(learning_rate=1e-3, warmup_steps=500, ema_decay=0.999),
        preview_every=2_000,
    ),
    prediction="v",
)

VARIANTS = {
    "full": FULL,
    "epsilon": FULL.replace(
        training=FULL.training.replace(steps=6_000),
        prediction="epsilon",
    ),
    "finetuned": FULL.replace(
        training=FULL.training.replace(
            steps=3_000,
            optimizer=OptimizerConfig(learning_rate=5e-4, warmup_steps=100, ema_decay=0.998),
        ),
    ),
    "cut": FULL.replace(
        training=short(
            FULL.training,
            init="runs/emoji/cut.safetensors",
            steps=1_200,
            learning_rate=5e-4,
            warmup_steps=100,
        ),
        latents="runs/emoji/latents",
    ),
    "demo": DEMO,
    "search": DEMO.replace(
        model=DEMO.model.replace(
            down=(StageConfig(48, 2, 2), StageConfig(96, 2, 2)),
            mid=StageConfig(96, 2, (1, 0)),
            up=(StageConfig(96, 3, 3), StageConfig(48, 3, 3)),
            time_width=None,
        ),
        training=DEMO.training.replace(
            steps=2_000,
            jit_compile=False,
            checkpoint_every=200,
            optimizer=OptimizerConfig(learning_rate=2e-3, warmup_steps=100, ema_decay=0.995),
        ),
    ),
}


def get_config(variant: str = "full") -> ml_collections.ConfigDict:
    return variant_dict("unet", VARIANTS, variant)
