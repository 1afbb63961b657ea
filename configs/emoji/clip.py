"""CLIP on emoji: its text tower conditions the UNet, both towers score pictures.

    tools/train.py --config=configs/emoji/clip.py:demo --workdir=runs/demo/clip

Variants: `full` is 64 px on all emoji; `demo` is 32 px on the demo's subset, part of `make demo`,
whose README section has the measured result.

The vocabulary of `full` has the 7,678 merges that CLIP's tokenizer learned first: no caption of the
emoji takes more than 29 tokens, and the table of tokens is 1.6 million numbers and not 9.5. Does it
find the caption of a real picture?

    tools/train.py --config=configs/emoji/clip.py --workdir=runs/emoji/clip
    tools/evaluate.py --workdir=runs/emoji/clip
    tools/evaluate.py --workdir=runs/emoji/clip --split=holdout

After 800 steps, one run on two cores of an AMD EPYC, most of which other work took, of 59.5 % of
the 749 validation pictures among their 749 captions, and of 80.5 % of the 706 of the holdout among
theirs (chance 0.1 %). Its learning rate fell as for 1,200 steps in the first 337 and then as for
800, so that --config.training.steps=800 is near it and not the same. After all 2,400 steps, one
run, of 66.8 % and 91.2 %; about 0.7 steps/s on two cores, 0.4 on one of them.
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
