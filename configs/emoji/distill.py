"""Step distillation of the 32 px emoji UNet (SnapFusion section 4; paper figure 3's pipeline).

    tools/distill_pipeline.py --config=configs/emoji/pipeline.py --workdir=runs/distill

runs most of the variants in their order; each can be trained by itself:

    tools/train.py --config=configs/emoji/distill.py:teacher16 --workdir=runs/distill/teacher16

`teacher16` is `configs/emoji/unet.py:search`, from 32 steps to 16; `efficient16` the same for the
efficient UNet, from the same teacher; `efficient8` has the 16 steps of `teacher16` in 8; `baked8`
learns the guidance of `efficient8` on top, so that a step is one evaluation. The efficient UNet is
given as --unet. `v` makes the teacher predict v where it predicts epsilon, by training on data from
its weights. `student8` has 16 of the teacher's steps in 8, in a short training: what
`configs/emoji/ablations.py` changes one thing of at a time. The paper's guidance scales, 2 to 14,
are Stable Diffusion's; 1 to 5 are these networks'. Cost and result: unmeasured.
"""

import ml_collections

from configs.emoji import unet
from configs.values import variant_dict
from tfsnap.training.config import OptimizerConfig
from tfsnap.training.jobs.distill import DistillConfig

RUNS = "runs/distill"
TEACHER = unet.VARIANTS["search"]
SHORT = 400  # Training steps of `student8`.

_LEARNING = TEACHER.replace(
    training=TEACHER.training.replace(
        steps=600,
        checkpoint_every=100,
        optimizer=OptimizerConfig(learning_rate=5e-4, warmup_steps=50, ema_decay=0.99),
    ),
)


def _variant(init: str, distill: DistillConfig):
    return _LEARNING.replace(training=_LEARNING.training.replace(init=init), distill=distill)


_TEACHER = "runs/search/teacher/weights.safetensors"
_GUIDANCE = (1.0, 5.0)
_HALF = DistillConfig(teacher=_TEACHER, steps=16, teacher_steps=32, guidance=_GUIDANCE)

VARIANTS = {
    "v": _LEARNING.replace(training=_LEARNING.training.replace(init=_TEACHER)),
    "student8": _LEARNING.replace(
        training=_LEARNING.training.replace(steps=SHORT, init=_TEACHER),
        distill=_HALF.replace(steps=8, teacher_steps=16),
    ),
    "teacher16": _variant(_TEACHER, _HALF),
    "efficient16": _variant("runs/search/finetuned/weights.safetensors", _HALF),
    "efficient8": _variant(
        f"{RUNS}/efficient16/weights.safetensors",
        _HALF.replace(teacher=f"{RUNS}/teacher16/weights.safetensors", steps=8, teacher_steps=16),
    ),
    "baked8": _variant(
        f"{RUNS}/efficient8/weights.safetensors",
        DistillConfig(
            teacher=f"{RUNS}/efficient8/weights.safetensors",
            steps=8,
            teacher_steps=8,
            cfg_probability=1.0,
            guidance=(3.0, 3.0),
            baked=True,
            gamma=0.0,
        ),
    ),
}


def get_config(variant: str = "efficient8") -> ml_collections.ConfigDict:
    return variant_dict("unet", VARIANTS, variant)
