"""From a trained UNet to one that draws in 8 evaluations, on emoji (SnapFusion section 4).

    tools/distill_pipeline.py --config=configs/emoji/pipeline.py --workdir=runs/distill

It starts from `configs/emoji/unet.py:search` and from the network that `configs/emoji/evolve.py`
found, fine-tuned. That teacher predicts v from its start. `from_epsilon` is for one that does not,
in runs/search/epsilon: its first stage is the fine-tuning to v, and its result the teacher. These
are 32 px. `full` is 64 px, down to one step, with progressive distillation and w-conditioning
beside it:

    tools/distill_pipeline.py --config=configs/emoji/pipeline.py:full --workdir=runs/emoji/distill

`full_from_epsilon` is the same from a teacher that predicts epsilon in runs/emoji/epsilon
(`configs/emoji/unet.py:epsilon`), its first stage the fine-tuning to v: 6,000 and 3,000 steps where
`unet.py:full` takes 9,000. One run as far as `baked8`, on one H100: 101 s, then 174 s.

One run of `full` on one H100, as portable steps: 4:38 minutes of training in all, without
compiling: `baked8` finds 80.6 % of 500 validation captions in 8 evaluations, `baked1` 79.0 % in
one, the teacher 83.4 % in 100; one of `from_epsilon`, its trainings cut to 240 steps, on two cores
kept busy by other work: 30 minutes. docs/distillation.md has the results. `from_v` is unmeasured.
"""

import ml_collections

from configs.values import variant_dict
from tfsnap.training.pipeline import DATA, STUDENT, TEACHER, PipelineConfig, PipelineStage

CONFIGS = "configs/emoji/distill.py"


def _stages(teacher: str, family: str = "") -> tuple[PipelineStage, ...]:
    config = f"{CONFIGS}:{family}"
    return (
        PipelineStage("teacher16", f"{config}teacher16", teacher, teacher),
        PipelineStage("efficient16", f"{config}efficient16", teacher, STUDENT),
        PipelineStage("efficient8", f"{config}efficient8", "teacher16", "efficient16"),
        PipelineStage("baked8", f"{config}baked8", "efficient8", "efficient8"),
    )


def _fewer(family: str, before: str, *, steps: int) -> PipelineStage:
    """Half of the steps of a student of `2 * steps`."""
    path = (f"distill.steps={steps}", f"distill.teacher_steps={2 * steps}")
    return PipelineStage(f"baked{steps}", f"{CONFIGS}:{family}baked4", before, before, path)


def _others(family: str) -> tuple[PipelineStage, ...]:
    """What the efficient UNet in 8 steps is compared with, by as many steps of training.

    Progressive distillation (Salimans & Ho 2022): each half from the network itself, without
    guidance. w-conditioning (Meng et al. 2023): the guided x first, then 16 of its steps in 8.
    """
    config = f"{CONFIGS}:{family}efficient8"
    alone = ("distill.cfg_probability=0.0", "distill.gamma=0.0")
    told = ("distill.cfg_probability=1.0", "distill.gamma=0.0", "model.guidance_width=48")
    guided = ("distill.steps=1000", "distill.teacher_steps=1000")
    half = ("distill.steps=16", "distill.teacher_steps=32")
    return (
        PipelineStage("progressive16", config, STUDENT, STUDENT, (*alone, *half)),
        PipelineStage("progressive8", config, "progressive16", "progressive16", alone),
        PipelineStage("conditioned", config, STUDENT, STUDENT, (*told, *guided), (50, 8)),
        PipelineStage("conditioned8", config, "conditioned", "conditioned", told),
    )


PIPELINE = PipelineConfig(
    teacher="runs/search/teacher",
    student_unet="runs/search/evolved/unet.json",
    student="runs/search/finetuned/weights.safetensors",
    autoencoder="runs/demo/autoencoder/weights.safetensors",
    clip="runs/demo/clip/weights.safetensors",
    stages=_stages(TEACHER),
)

_FULL = PIPELINE.replace(
    teacher="tfsnap/presets/emoji-64/teacher",
    student_unet="tfsnap/presets/emoji-64/evolved.json",
    student="runs/emoji/finetuned/weights.safetensors",
    autoencoder="tfsnap/presets/emoji-64/autoencoder.safetensors",
    clip="tfsnap/presets/emoji-64/clip.safetensors",
    count=500,
    guidance=2.0,
)

VARIANTS = {
    "from_v": PIPELINE,
    "from_epsilon": PIPELINE.replace(
        teacher="runs/search/epsilon",
        stages=(PipelineStage("v", f"{CONFIGS}:v", DATA, TEACHER, scored=(50,)), *_stages("v")),
    ),
    "full": _FULL.replace(
        stages=(
            *_stages(TEACHER, "full_"),
            PipelineStage("baked4", f"{CONFIGS}:full_baked4", "baked8", "baked8"),
            _fewer("full_", "baked4", steps=2),
            _fewer("full_", "baked2", steps=1),
            *_others("full_"),
        ),
    ),
    "full_from_epsilon": _FULL.replace(
        teacher="runs/emoji/epsilon",
        stages=(
            PipelineStage("v", "configs/emoji/unet.py:finetuned", DATA, TEACHER, scored=(50,)),
            *_stages("v", "full_"),
        ),
    ),
}


def get_config(variant: str = "from_v") -> ml_collections.ConfigDict:
    return variant_dict(None, VARIANTS, variant)
