"""Efficient emoji decoders (SnapFusion section 3.2).

    tools/train.py --config=configs/emoji/decoder_distill.py --workdir=runs/search/decoder
    tools/train.py --config=configs/emoji/decoder_distill.py:tiny --workdir=runs/search/tiny

Variants: `full` is 64 px, on one pool of 8,192 latents of the distilled student, sized for a GPU;
it is the decoder of the bundles that ship. One run on one H100 as a portable step, 76 s at 79
steps/s beside other compiling: 36.8 dB to the teacher, of 150 validation pictures, in 0.32 of its
time (docs/architecture.md).

    tools/compile_step.py --config=configs/emoji/decoder_distill.py:full --output=decoder
    tools/run_step.py decoder --workdir=runs/emoji/decoder

`half` has half of the teacher's channels, as in the paper: 107,191 of 423,127 parameters. `tiny`,
beyond the paper, consists of separable convolutions in the manner of SnapGen and TAESD: 32,047.
benchmarks/decoders.py compares them with the teacher.

These two learn from the decoder of the demo's autoencoder on what `configs/emoji/unet.py:search`
generates, at 32 px. Export with tools/export.py
--autoencoder=runs/search/decoder/weights.safetensors. The paper samples with 50 steps and guidance
7.5; this network needs neither. One run of each on two cores kept busy by other work: 34.9 and 31.6
dB to the teacher's pictures in 0.565 and 0.053 of its time (docs/architecture.md).
"""

import ml_collections

from configs.emoji.subset import demo_data
from configs.values import variant_dict
from tfsnap.config import TinyDecoderConfig
from tfsnap.training.config import OptimizerConfig, TrainingConfig
from tfsnap.training.jobs import DecoderJob
from tfsnap.training.jobs.inputs import DataConfig

HALF = DecoderJob(
    autoencoder="runs/demo/autoencoder/weights.safetensors",
    clip="runs/demo/clip/weights.safetensors",
    unet="runs/search/teacher/weights.safetensors",
    decoder_channels=(8, 16, 32),
    data=demo_data(),
    training=TrainingConfig(
        steps=2_000,
        batch_size=16,
        log_every=50,
        checkpoint_every=500,
        optimizer=OptimizerConfig(learning_rate=2e-3, warmup_steps=50, ema_decay=0.99),
    ),
    pool=1_024,
    pool_steps=500,
    cache="runs/search/pools",
    steps=10,
    guidance=3.0,
)


VARIANTS = {
    "full": HALF.replace(
        autoencoder="tfsnap/presets/emoji-64/autoencoder.safetensors",
        clip="tfsnap/presets/emoji-64/clip.safetensors",
        unet="runs/emoji/distill/baked8/weights.safetensors",
        decoder_channels=(32, 64, 64),
        data=DataConfig(resolution=64),
        training=HALF.training.replace(
            steps=6_000,
            batch_size=64,
            log_every=100,
            optimizer=OptimizerConfig(learning_rate=2e-3, warmup_steps=200, ema_decay=0.998),
        ),
        cache="runs/emoji/student_pools",
        pool=8_192,
        pool_steps=0,
        steps=8,
        guidance=2.0,
    ),
    "half": HALF,
    "tiny": HALF.replace(
        decoder_channels=None,
        tiny_decoder=TinyDecoderConfig(channels=(16, 24, 32), blocks=(1, 2, 3)),
    ),
}


def get_config(variant: str = "half") -> ml_collections.ConfigDict:
    return variant_dict("decoder", VARIANTS, variant)
