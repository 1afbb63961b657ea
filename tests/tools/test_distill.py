"""Step distillation as a user types it: several trainings, a report, and a bundle at the end."""

import json

import pytest

from tests.tools.programs import ROOT, SMALL, succeed
from tests.tools.refusals import refusal
from tfsnap.training.jobs.runs import load_finished
from tfsnap.training.pipeline import STUDENT, TEACHER, PipelineConfig, PipelineStage

CONFIG = """
from configs.emoji.pipeline import CONFIGS, PIPELINE, PipelineStage, config_dict

STAGES = (
    PipelineStage("baked", f"{{CONFIGS}}:baked8", teacher="student", init="student"),
)

def get_config():
    return config_dict(None, PIPELINE.replace(
        teacher="{runs}/unet", student_unet="{runs}/unet/config.json",
        student="{runs}/unet/weights.safetensors", stages=STAGES, count=2, compare=(2,),
        autoencoder="{runs}/autoencoder/weights.safetensors",
        clip="{runs}/clip/weights.safetensors"))
"""


def test_a_pipeline_ends_with_one_evaluation_a_step(runs, tmp_path):
    path = tmp_path / "small.py"
    path.write_text(CONFIG.format(runs=runs))
    small = (flag for flag in SMALL if "steps" not in flag)
    small = (*small, "--config.training.steps=1", "--config.preview_steps=1")
    workdir = f"--workdir={tmp_path}/distilled"
    more = (f"--train_flag={flag}" for flag in small)
    command = ("distill_pipeline", f"--config={path}", workdir, *more)
    told = succeed(*command)
    assert told.count("tools/train.py") == 1 and told.count("tools/evaluate.py") == 2
    report = (tmp_path / "distilled/report.md").read_text()
    assert report in told
    steps = [line.split(" | ")[1] for line in report.splitlines() if line.startswith("| ")]
    assert steps == ["steps", "2", "8"]
    scores = json.loads((tmp_path / "distilled/scores-baked.json").read_text())
    assert scores["guidance"] == 3.0 and scores["count"] == 2
    model = load_finished(tmp_path / "distilled/baked")
    assert model.steps == 8 and model.baked_guidance == 3.0
    again = succeed(*command)
    assert "tools/" not in again and report in again


def test_a_pipeline_of_another_config_is_one_line(tmp_path):
    workdir = f"--workdir={tmp_path}"
    config = f"--config={ROOT}/configs/emoji/pipeline.py"
    save_config = PipelineConfig(count=1).to_dict()
    (tmp_path / "config.json").write_text(json.dumps(save_config))
    told = refusal("distill_pipeline", config, workdir)
    assert told.startswith("distill_pipeline: ") and "count was 1, is 72" in told


@pytest.mark.parametrize(
    ("stage", "message"),
    [
        (PipelineStage("a", "x", teacher="b"), "teacher of stage 'a' is 'b'"),
        (PipelineStage("a", "x", init="a"), "init of stage 'a' is 'a'"),
        (PipelineStage("", "x"), "each needs a name"),
        (PipelineStage("student", "x"), "each needs a name of its own"),
    ],
)
def test_stages_learn_from_earlier_ones(stage, message):
    with pytest.raises(ValueError, match=message):
        PipelineConfig(stages=(stage,))
    with pytest.raises(ValueError, match="each needs a name of its own"):
        PipelineConfig(stages=(PipelineStage("a", "x"), PipelineStage("a", "x")))


def test_a_stage_has_the_shape_that_it_starts_with():
    stages = (
        PipelineStage("a", "x", init=STUDENT),
        PipelineStage("b", "x", teacher="a"),
        PipelineStage("c", "x", teacher="b", init="a"),
    )
    found = PipelineConfig(stages=stages)
    assert [found.origin(name) for name in "abc"] == [STUDENT, TEACHER, STUDENT]
