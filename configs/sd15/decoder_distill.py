"""Efficient decoders of Stable Diffusion v1.5 (SnapFusion section 3.2).

    tools/train.py --config=configs/sd15/decoder_distill.py --workdir=runs/sd15/decoder
    tools/train.py --config=configs/sd15/decoder_distill.py:tiny --workdir=runs/sd15/tiny_decoder

Variants: `half` is the paper's, with half of the channels: 12,387,459 of 49,490,179 parameters
without the first convolution, of latents; `tiny`, beyond the paper, consists of separable
convolutions in the manner of SnapGen and TAESD: 1,434,595.

Prompts, 50 DDIM steps with guidance 7.5, and the mean squared error between what both decoders make
of the latent, as in the paper; learning rate and length are not in it. Cost and result: unmeasured.
"""

import ml_collections

from configs.values import variant_dict
from tfsnap.config import TinyDecoderConfig
from tfsnap.training.config import OptimizerConfig, TrainingConfig
from tfsnap.training.jobs import DecoderJob
from tfsnap.training.jobs.inputs import DataConfig

HALF = DecoderJob(
    autoencoder="runs/sd15/autoencoder.safetensors",
    clip="runs/sd15/text_encoder.safetensors",
    unet="runs/sd15/unet.safetensors",
    decoder_channels=(64, 128, 256, 256),
    data=DataConfig(dataset="data/photos", resolution=512),
    training=TrainingConfig(
        steps=50_000,
        batch_size=32,
        precision="bfloat16",
        jit_compile=True,
        optimizer=OptimizerConfig(learning_rate=1e-4, warmup_steps=500, ema_decay=0.999),
    ),
    cache="runs/sd15/pools",
)


VARIANTS = {
    "half": HALF,
    "tiny": HALF.replace(decoder_channels=None, tiny_decoder=TinyDecoderConfig()),
}


def get_config(variant: str = "half") -> ml_collections.ConfigDict:
    return variant_dict("decoder", VARIANTS, variant)
