"""CLIP on emoji: its text tower conditions the UNet, both towers score pictures.

    tools/train.py --config=configs/emoji/clip.py:demo --workdir=runs/demo/clip

Variants: `full` is 64 px on all emoji; `demo` is 32 px on the demo's subset, part of `make demo`:
88.9 % of the 18 pictures of validation and holdout find their caption (chance 5.6 %;
`tools/evaluate.py --workdir=runs/demo/clip --split=validation+holdout`), 26 s on two cores of an
AMD EPYC, one run.

The vocabulary of `full` has the 7,678 merges that CLIP's tokenizer learned first: no caption of the
emoji takes more than 29 tokens, and the table of tokens is 1.6 million numbers and not 9.5. Does it
find the caption of a real picture?

    tools/compile_step.py --config=configs/emoji/clip.py --output=step --half=state
    tools/run_step.py step --workdir=runs/emoji/clip
    tools/evaluate.py --weights=runs/emoji/clip/weights.safetensors --dataset=emoji
    tools/evaluate.py --weights=runs/emoji/clip/weights.safetensors --dataset=emoji --split=holdout

One run on one H100 with version 1.0.0 of the data, 25 s at 140 steps/s: of 73.7 % of its 749
validation pictures among their captions, and of 97.7 % of the 706 of its holdout (chance 0.1 %).
`tfsnap/presets/emoji-64` has them trained on by `mended.py:clip`. With tools/train.py, 2,400 steps
of 256 pictures, 1.4 s a step on two cores of an AMD EPYC, reached 66.8 % and 91.2 %.
"""

import ml_collections

from configs.emoji.subset import demo_data
from configs.values import variant_dict
from tfsnap.config import ClipConfig, ClipImageConfig, ClipTextConfig
from tfsnap.training.config import OptimizerConfig, TrainingConfig
from tfsnap.training.jobs import ClipJob
from tfsnap.training.jobs.inputs import DataConfig

VARIANTS = {
    "full": ClipJob(
        model=ClipConfig(
            text=ClipTextConfig(vocab_size=8192, context_length=32, width=192, layers=3, heads=4),
            image=ClipImageConfig(resolution=64, patch=8, width=192, layers=4, heads=4),
            embedding_width=192,
        ),
        data=DataConfig(resolution=64),
        training=TrainingConfig(
            steps=3_500,
            batch_size=512,
            precision="bfloat16",
            log_every=50,
            checkpoint_every=100,
            optimizer=OptimizerConfig(
                learning_rate=1e-3, warmup_steps=100, weight_decay=0.2, ema_decay=0.99
            ),
        ),
    ),
    "demo": ClipJob(
        model=ClipConfig(
            text=ClipTextConfig(context_length=24, width=128, layers=2, heads=4),
            image=ClipImageConfig(resolution=32, patch=4, width=128, layers=3, heads=4),
            embedding_width=128,
        ),
        data=demo_data(),
        training=TrainingConfig(
            steps=140,
            batch_size=64,
            checkpoint_every=70,
            optimizer=OptimizerConfig(
                learning_rate=1e-3, warmup_steps=30, weight_decay=0.1, ema_decay=0.98
            ),
        ),
    ),
}


def get_config(variant: str = "full") -> ml_collections.ConfigDict:
    return variant_dict("clip", VARIANTS, variant)
