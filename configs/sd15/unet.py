r"""Fine-tuning of Stable Diffusion v1.5's UNet on a cache of latents at 512 px.

    tools/train.py --config=configs/sd15/unet.py:epsilon --workdir=runs/sd15/epsilon

Variants: `epsilon` keeps what the network predicts; `v` trains it to predict velocities, as step
distillation needs (paper section 4, first step of the pipeline); `lora` trains a low-rank
adaptation of rank 4. Learning rates and lengths are not in the paper. docs/fine_tuning.md has the
way from a checkpoint to a picture.

In 24 GB, measured on two cores of an AMD EPYC beside other work, one run: a step of all weights
takes 40 s and 19.2 GB, one of the LoRA 43 s and 7.9 GB.

    benchmarks/training_step.py --config=configs/sd15/unet.py:epsilon --latent=64 --tokens=77 \
      --config.training.batch_size=1 --config.training.precision=float32 \
      --config.training.jit_compile=False --config.training.optimizer.ema_decay=0.0 --steps=2 \
      --rounds=1

Result: unmeasured.
"""

import ml_collections

from configs.values import variant_dict
from tfsnap.training.config import OptimizerConfig, TrainingConfig
from tfsnap.training.jobs import UNetJob
from tfsnap.training.jobs.inputs import DataConfig
from tfsnap.training.lora import LoraConfig

EPSILON = UNetJob(
    autoencoder="runs/sd15/autoencoder.safetensors",
    clip="runs/sd15/text_encoder.safetensors",
    latents="runs/sd15/latents",
    data=DataConfig(dataset="data/photos", resolution=512),
    training=TrainingConfig(
        steps=10_000,
        batch_size=2_048,
        init="runs/sd15/unet.safetensors",
        precision="bfloat16",
        jit_compile=True,
        rematerialize=("*.resnets.*", "*.attentions.*"),  # Block by block holds the least at once.
        asynchronous_checkpoints=True,
        optimizer=OptimizerConfig(learning_rate=1e-5, warmup_steps=500, ema_decay=0.999),
    ),
)

VARIANTS = {
    "epsilon": EPSILON,
    "v": EPSILON.replace(prediction="v"),
    "lora": EPSILON.replace(
        lora=LoraConfig(rank=4, alpha=4.0, base="runs/sd15/unet.safetensors"),
        training=EPSILON.training.replace(
            init="",
            steps=2_000,
            batch_size=16,
            optimizer=OptimizerConfig(learning_rate=1e-4, warmup_steps=50, ema_decay=0.0),
        ),
    ),
}


def get_config(variant: str = "epsilon") -> ml_collections.ConfigDict:
    return variant_dict("unet", VARIANTS, variant)
