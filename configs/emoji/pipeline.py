"""From a trained UNet to one that draws in 8 evaluations, on emoji at 32 px (SnapFusion section 4).

    tools/distill_pipeline.py --config=configs/emoji/pipeline.py --workdir=runs/distill

It starts from `configs/emoji/unet.py:search` and from the network that `configs/emoji/evolve.py`
found, fine-tuned. Cost and result: unmeasured.
"""

import ml_collections

from configs.values import config_dict
from tfsnap.training.pipeline import STUDENT, TEACHER, PipelineConfig, PipelineStage

CONFIGS = "configs/emoji/distill.py"

PIPELINE = PipelineConfig(
    teacher="runs/search/teacher",
    student_unet="runs/search/evolved/unet.json",
    student="runs/search/finetuned/weights.safetensors",
    autoencoder="runs/demo/autoencoder/weights.safetensors",
    clip="runs/demo/clip/weights.safetensors",
    stages=(
        PipelineStage("teacher16", f"{CONFIGS}:teacher16", teacher=TEACHER, init=TEACHER),
        PipelineStage("efficient16", f"{CONFIGS}:efficient16", teacher=TEACHER, init=STUDENT),
        PipelineStage("efficient8", f"{CONFIGS}:efficient8", "teacher16", "efficient16"),
        PipelineStage("baked8", f"{CONFIGS}:baked8", "efficient8", "efficient8"),
    ),
)


def get_config() -> ml_collections.ConfigDict:
    return config_dict(None, PIPELINE)
