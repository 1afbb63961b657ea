"""From a trained UNet to one that draws in 8 evaluations, on emoji at 32 px (SnapFusion section 4).

    tools/distill_pipeline.py --config=configs/emoji/pipeline.py --workdir=runs/distill

It starts from `configs/emoji/unet.py:search` and from the network that `configs/emoji/evolve.py`
found, fine-tuned. That teacher predicts v from its start. `from_epsilon` is for one that does not,
in runs/search/epsilon: its first stage is the fine-tuning to v, and its result the teacher. Cost
and result: unmeasured.
"""

import ml_collections

from configs.values import variant_dict
from tfsnap.training.pipeline import DATA, STUDENT, TEACHER, PipelineConfig, PipelineStage

CONFIGS = "configs/emoji/distill.py"


def _stages(teacher: str) -> tuple[PipelineStage, ...]:
    return (
        PipelineStage("teacher16", f"{CONFIGS}:teacher16", teacher, teacher),
        PipelineStage("efficient16", f"{CONFIGS}:efficient16", teacher, STUDENT),
        PipelineStage("efficient8", f"{CONFIGS}:efficient8", "teacher16", "efficient16"),
        PipelineStage("baked8", f"{CONFIGS}:baked8", "efficient8", "efficient8"),
    )


PIPELINE = PipelineConfig(
    teacher="runs/search/teacher",
    student_unet="runs/search/evolved/unet.json",
    student="runs/search/finetuned/weights.safetensors",
    autoencoder="runs/demo/autoencoder/weights.safetensors",
    clip="runs/demo/clip/weights.safetensors",
    stages=_stages(TEACHER),
)

VARIANTS = {
    "from_v": PIPELINE,
    "from_epsilon": PIPELINE.replace(
        teacher="runs/search/epsilon",
        stages=(PipelineStage("v", f"{CONFIGS}:v", DATA, TEACHER, scored=(50,)), *_stages("v")),
    ),
}


def get_config(variant: str = "from_v") -> ml_collections.ConfigDict:
    return variant_dict(None, VARIANTS, variant)
