"""Step distillation of the emoji UNets (SnapFusion section 4; paper figure 3's pipeline).

    tools/distill_pipeline.py --config=configs/emoji/pipeline.py --workdir=runs/distill

runs most of the variants in their order; each can be trained by itself:

    tools/train.py --config=configs/emoji/distill.py:teacher16 --workdir=runs/distill/teacher16

`teacher16` is `configs/emoji/unet.py:search`, from 32 steps to 16; `efficient16` the same for the
efficient UNet, from the same teacher; `efficient8` has the 16 steps of `teacher16` in 8; `baked8`
learns the guidance of `efficient8` on top, so that a step is one evaluation. The efficient UNet is
given as --unet. `v` makes the teacher predict v where it predicts epsilon, by training on data from
its weights. `student8` has 16 of the teacher's steps in 8, in a short training: what
`configs/emoji/ablations.py` changes one thing of at a time; `student2` has 4 of them in 2. The
paper's guidance scales, 2 to 14, are Stable Diffusion's; 1 to 5 are these networks'. `baked4`
halves the steps of `baked8` once more.

The same with `full_` before the name is 64 px, from the teacher that ships,

    tools/train.py --config=configs/emoji/distill.py:full_efficient16 \
      --workdir=runs/emoji/distill/efficient16 --unet=tfsnap/presets/emoji-64/evolved.json

(`full_teacher16` without --unet), or all by `configs/emoji/pipeline.py:full`. There the halving to
16 steps is vanilla, the 8 steps are always guided, and nothing is learnt from data; only
`full_student8` and `full_student2`, which the arms of an ablation are changes of, are the mix, the
second in 200 steps of 64 from a cache of latents: 5 to 8 minutes on two cores of an AMD EPYC.

One run each on one H100 as a portable step, with version 1.0.0 of the data, while others compiled
beside it; and how many of 500 validation captions CLIP finds in what the int8 bundle draws, where
the teacher in 8 steps has 84.2 % and the efficient UNet undistilled 82.4 (errors are near 2):
`full_teacher16` 41 s, `full_efficient16` 22 s (both unscored), `full_efficient8` 29 s and 79.8 %,
`full_baked8` 31 s and 80.6 %, `full_baked4` 16 s and 80.6 %. docs/distillation.md has more of them
and of others, and of a short run at 32 px.
"""

from collections.abc import Mapping
from typing import Any

import ml_collections

from configs.emoji import unet
from configs.emoji.short import short
from configs.values import variant_dict
from tfsnap.training.config import OptimizerConfig
from tfsnap.training.jobs import UNetJob
from tfsnap.training.jobs.distill import DistillConfig

SHORT = 400  # Training steps of `student8`.
FEW = 200  # Of `full_student2`.


def _variants(
    teacher: UNetJob,
    *,
    runs: str,
    student: str,
    distilled: str,
    mix: Mapping[str, Any],
    halving: Mapping[str, Any],
    guided: Mapping[str, Any],
    scale: float,
    precision: str = "float32",
    **training: Any,
) -> dict[str, UNetJob]:
    """The pipeline's trainings.

    Args:
      teacher: the training of the network that is distilled.
      runs: its workdir.
      student: weight file of the efficient UNet.
      distilled: folder of the workdirs of these trainings.
      mix: fields of `DistillConfig` of `student8` and `student2`.
      halving: the same of the stages with 16 steps.
      guided: the same of those with 8.
      scale: the guidance scale that is baked in.
      precision: what the teachers compute in.
      **training: fields of `TrainingConfig`.
    """
    weights = f"{runs}/weights.safetensors"
    learning = teacher.replace(training=teacher.training.replace(**training))

    def result(stage: str) -> str:
        return f"{distilled}/{stage}/weights.safetensors"

    def variant(init: str, distill: DistillConfig) -> UNetJob:
        return learning.replace(training=learning.training.replace(init=init), distill=distill)

    start = DistillConfig(teacher=weights, steps=8, teacher_steps=16, precision=precision)
    half = start.replace(steps=16, teacher_steps=32, **halving)
    eight = start.replace(**guided)
    baked = start.replace(
        teacher=result("efficient8"),
        teacher_steps=8,
        cfg_probability=1.0,
        guidance=(scale, scale),
        baked=True,
        gamma=0.0,
    )
    fewer = start.replace(
        teacher=result("baked8"), steps=4, teacher_steps=8, cfg_probability=0.0, gamma=0.0
    )
    short = learning.replace(
        training=learning.training.replace(steps=SHORT, init=weights),
        distill=start.replace(**mix),
    )
    return {
        "v": learning.replace(training=learning.training.replace(init=weights)),
        "student8": short,
        "student2": short.replace(distill=short.distill.replace(steps=2, teacher_steps=4)),
        "teacher16": variant(weights, half),
        "efficient16": variant(student, half),
        "efficient8": variant(result("efficient16"), eight.replace(teacher=result("teacher16"))),
        "baked8": variant(result("efficient8"), baked),
        "baked4": variant(result("baked8"), fewer),
    }


def _few(job: UNetJob) -> UNetJob:
    """As long as two cores take minutes for, so that several seeds can be trained."""
    init = job.training.init
    training = short(job.training, init=init, steps=FEW, checkpoint_every=50, ema_decay=0.98)
    return job.replace(training=training, latents="runs/emoji/latents")


_MIX = {"guidance": (1.0, 5.0)}

_FULL = _variants(
    unet.VARIANTS["full"],
    runs="tfsnap/presets/emoji-64/teacher",
    student="runs/emoji/finetuned/weights.safetensors",
    distilled="runs/emoji/distill",
    mix={"guidance": (1.0, 4.0)},
    halving={"cfg_probability": 0.0, "gamma": 0.0},
    guided={"cfg_probability": 1.0, "guidance": (1.0, 4.0), "gamma": 0.0},
    scale=2.0,
    precision="bfloat16",
    steps=1_500,
    batch_size=128,
    checkpoint_every=500,
    optimizer=OptimizerConfig(learning_rate=3e-4, warmup_steps=100, ema_decay=0.995),
)

VARIANTS = {
    **_variants(
        unet.VARIANTS["search"],
        runs="runs/search/teacher",
        student="runs/search/finetuned/weights.safetensors",
        distilled="runs/distill",
        mix=_MIX,
        halving=_MIX,
        guided=_MIX,
        scale=3.0,
        steps=600,
        checkpoint_every=100,
        optimizer=OptimizerConfig(learning_rate=5e-4, warmup_steps=50, ema_decay=0.99),
    ),
    **{f"full_{name}": job for name, job in _FULL.items()},
    "full_student2": _few(_FULL["student2"]),
}


def get_config(variant: str = "efficient8") -> ml_collections.ConfigDict:
    return variant_dict("unet", VARIANTS, variant)
