"""Step distillation as a user types it: several trainings, a report, and a bundle at the end."""

import json
import pathlib
import shlex
import subprocess
import sys

import pytest

from configs.emoji.ablations import VARIANTS
from configs.emoji.pipeline import VARIANTS as PIPELINES
from tests.tools.programs import ROOT, SMALL, succeed
from tests.tools.refusals import refusal
from tfsnap.training.jobs import UNetJob
from tfsnap.training.jobs.runs import load_finished, save_config
from tfsnap.training.pipeline import STUDENT, TEACHER, PipelineConfig, PipelineStage
from tools.distill_stages import Pipeline, Training

CONFIG = """
from configs.emoji.ablations import ALWAYS, LCM, READS
from configs.emoji.pipeline import PIPELINE
from configs.values import config_dict
from tfsnap.training.pipeline import Comparison, PipelineStage

CHANGES = (*LCM, *ALWAYS, READS)
CONFIG = "configs/emoji/distill.py:student8"
STAGES = (PipelineStage("one", CONFIG, "student", "student", CHANGES, (2, 1)),)

def get_config():
    return config_dict(None, PIPELINE.replace(
        teacher="{runs}/unet", student_unet="{runs}/unet/config.json",
        student="{runs}/unet/weights.safetensors", stages=STAGES, count=2,
        compare=(Comparison(2, "dpmpp_2m"),),
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
    assert told.count("tools/train.py") == 1 and told.count("tools/evaluate.py") == 3
    report = (tmp_path / "distilled/report.md").read_text()
    assert report in told
    rows = [line[2:].split(" | ")[:5] for line in report.splitlines() if line.startswith("| ")]
    assert rows[1:] == [
        ["teacher, dpmpp_2m", "2", "dpmpp_2m", "4", "12"],
        ["one", "2", "lcm", "2", "4"],
        ["one", "1", "lcm", "1", "4"],
    ]
    assert json.loads((tmp_path / "distilled/seconds.json").read_text())["one"] > 1
    scores = json.loads((tmp_path / "distilled/scores-one@1.json").read_text())
    assert scores["guidance"] == 3.0 and scores["count"] == 2
    model = load_finished(tmp_path / "distilled/one")
    assert (model.steps, model.sampler, model.evaluations(3.0)) == (4, "lcm", 1)
    assert model.unet.config.guidance_width == 48  # Not lost by --unet.
    again = succeed(*command)
    assert "tools/" not in again and report in again
    other = refusal(*command, "--train_flag=--config.training.seed=1")
    assert "changes was [" in other and '"training.seed=1"]' in other


def test_every_student_is_the_teacher_of_the_next(tmp_path):
    found = Pipeline(VARIANTS["schedules"], tmp_path, ["--config.training.steps=1"]).stages()
    commands = {stage.title: " ".join(stage.command) for stage in found if "train" in stage.title}
    first, second = commands["train progressive16"], commands["train progressive8"]
    teacher = "runs/search/teacher/weights.safetensors"
    assert f"--config.distill.teacher={teacher} --config.training.init={teacher}" in first
    weights = tmp_path / "progressive16/weights.safetensors"
    assert f"--config.distill.teacher={weights} --config.training.init={weights}" in second
    assert "--config.distill.teacher_steps=32 --config.distill.steps=16" in first
    assert "--config.distill.teacher_steps=16 --config.distill.steps=8" in second
    assert all(command.endswith("--config.training.steps=1") for command in commands.values())


def test_stages_are_compiled_before_what_they_build_on_is_trained(tmp_path):
    workdir, steps = tmp_path / "distilled", tmp_path / "steps"
    pipeline = Pipeline(VARIANTS["schedules"], workdir, ["--half=frozen"])
    commands = {c.title: c.command for c in pipeline.compilations(steps)}
    first, second = commands["compile progressive16"], commands["compile progressive8"]
    teacher = "runs/search/teacher/weights.safetensors"
    assert f"--config.distill.teacher={teacher}" in first
    assert {f"--output={steps}/progressive16", f"--data={steps}/data", "--half=frozen"} < set(first)
    untrained = steps / "progressive16/untrained.safetensors"
    assert f"--config.distill.teacher={untrained}" in second
    assert f"--config.training.init={untrained}" in second
    untrained.parent.mkdir(parents=True)
    untrained.touch()
    left = [c.title for c in pipeline.compilations(steps)]
    assert left == [title for title in commands if title != "compile progressive16"]
    weights = workdir / "progressive16/weights.safetensors"
    weights.parent.mkdir(parents=True)
    weights.touch()
    again = {c.title: c.command for c in pipeline.compilations(steps)}
    assert f"--config.training.init={weights}" in again["compile progressive8"]


def test_a_script_trains_the_compiled_stages(tmp_path):
    workdir, steps = ROOT / "runs/somewhere", tmp_path / "my steps"
    lines = Pipeline(VARIANTS["schedules"], workdir, []).run_commands(steps).splitlines()
    direct, _, second, *_ = (shlex.split(line) for line in lines[2:])
    program = ["python3", "tools/run_step.py"]
    direct_workdir = "--workdir=runs/somewhere/direct8"
    assert direct == [*program, f"{steps}/direct8", f"--data={steps}/data", direct_workdir]
    assert second[2] == f"{steps}/progressive8"
    weights = "runs/somewhere/progressive16/weights.safetensors"
    assert second[-2:] == [f"--init={weights}", f"--frozen={weights}"]


def test_what_another_device_trained_is_finished_here(tmp_path):
    folder = tmp_path / "direct8"
    folder.mkdir()
    pipeline = Pipeline(VARIANTS["schedules"], tmp_path, [])
    (folder / "weights.safetensors").touch()
    assert "train direct8" in [stage.title for stage in pipeline.stages()]
    save_config(folder, UNetJob())
    assert "train direct8" not in [stage.title for stage in pipeline.stages()]


def test_a_stage_may_learn_from_data_alone(tmp_path):
    found = Pipeline(PIPELINES["from_epsilon"], tmp_path, []).stages()
    commands = {stage.title: stage.command for stage in found}
    assert "--config.distill.teacher=" in commands["train v"]
    weights = tmp_path / "v/weights.safetensors"
    assert f"--config.distill.teacher={weights}" in commands["train efficient16"]


def test_seconds_of_a_training_that_fails_count_too(tmp_path, monkeypatch):
    path = tmp_path / "seconds.json"
    path.write_text('{"one": 100.0, "other": 5.0}')
    failing = [sys.executable, "-c", "raise SystemExit(1)"]
    start = subprocess.Popen
    monkeypatch.setattr(subprocess, "Popen", lambda *_, **how: start(failing, **how))
    with pytest.raises(SystemExit, match="train.py failed"):
        Training(path, "one", "--config=nothing.py").run("distill")
    seconds = json.loads(path.read_text())
    assert seconds["one"] > 100.0 and seconds["other"] == 5.0


def test_a_report_knows_the_teacher_wherever_it_is_written(tmp_path, monkeypatch):
    pipeline = Pipeline(PIPELINES["full"].replace(stages=()), tmp_path / "workdir", [])
    scores = {"steps": 8, "sampler": "ddim", "evaluations": 16, "clip_score": 0.5, "top1": 0.25}
    for stage in pipeline.stages():
        (given,) = (word for word in stage.command if word.startswith("--json="))
        path = pathlib.Path(given.removeprefix("--json="))
        path.parent.mkdir(exist_ok=True)
        path.write_text(json.dumps({**scores, "count": 4, "chance": 0.1}))
    monkeypatch.chdir(tmp_path)
    trained_on = pipeline.report().splitlines()[2].split(" | ")[4]
    assert trained_on == "76,800"  # 1,200 steps of 64: those before its `init` are another run.


def test_a_pipeline_of_another_config_is_one_line(tmp_path):
    workdir = f"--workdir={tmp_path}"
    config = f"--config={ROOT}/configs/emoji/pipeline.py"
    save_config = PipelineConfig(count=1).to_dict()
    (tmp_path / "config.json").write_text(json.dumps(save_config))
    (tmp_path / "seconds.json").write_text("{}")
    told = refusal("distill_pipeline", config, workdir)
    assert told.startswith("distill_pipeline: ") and "count was 1, is 72" in told


@pytest.mark.parametrize(
    ("stage", "message"),
    [
        (PipelineStage("a", "x", teacher="b"), "teacher of stage 'a' is 'b'"),
        (PipelineStage("a", "x", init="a"), "init of stage 'a' is 'a'"),
        (PipelineStage("", "x"), "each needs a name"),
        (PipelineStage("student", "x"), "each needs a name of its own"),
        (PipelineStage("a", "x", init=""), "init of stage 'a' is ''"),
    ],
)
def test_stages_learn_from_earlier_ones(stage, message):
    with pytest.raises(ValueError, match=message):
        PipelineConfig(stages=(stage,))
    with pytest.raises(ValueError, match="each needs a name of its own"):
        PipelineConfig(stages=(PipelineStage("a", "x"), PipelineStage("a", "x")))


def test_files_of_scores_belong_to_one_stage():
    with pytest.raises(ValueError, match="name is 'a@8'; it must be without an @"):
        PipelineStage("a@8", "x")
    with pytest.raises(ValueError, match="compare is .*not empty without stages"):
        PipelineConfig(compare=())


def test_changes_are_fields_with_values():
    with pytest.raises(ValueError, match="fields with their values, such as distill.gamma=0"):
        PipelineStage("a", "x", changes=("distill.gamma",))


def test_a_stage_has_the_shape_that_it_starts_with():
    stages = (
        PipelineStage("a", "x", init=STUDENT),
        PipelineStage("b", "x", teacher="a"),
        PipelineStage("c", "x", teacher="b", init="a"),
    )
    found = PipelineConfig(stages=stages)
    assert [found.origin(name) for name in "abc"] == [STUDENT, TEACHER, STUDENT]
