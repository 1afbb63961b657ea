#!/usr/bin/env python3
"""Distils a text-to-image model to a few steps: several trainings, each learning from another.

    tools/distill_pipeline.py --config=configs/emoji/pipeline.py --workdir=runs/distill
    tools/distill_pipeline.py --config=configs/emoji/ablations.py:losses --workdir=runs/losses

Runs tools/train.py for every stage of the config and tools/evaluate.py for every result and for the
teacher as it is, and prints each command as a user would type it. A stage that is done is not done
again: run the same command again to go on. The workdir gets a folder for each stage, the seconds
that their trainings took, `seconds.json`, and `report.md`.

On a device where TensorFlow does not run, the trainings run as portable steps:

    tools/distill_pipeline.py --config=configs/emoji/pipeline.py --workdir=runs/distill \
      --compile=steps
    sh steps/run.sh    # there, with this repository's files, `steps` and `runs`

Then, with the workdir back, the first command finishes the trainings and scores what they made.
"""

import pathlib
import sys

from absl import flags
from ml_collections import config_flags

# Programs are run from anywhere: the repository's root holds `configs` and `tools`.
sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))

from tfsnap.lock import alone_in
from tfsnap.training.jobs.runs import require_same_config
from tfsnap.training.pipeline import PipelineConfig
from tools.distill_stages import RUN, Pipeline
from tools.program import run_main
from tools.stages import clock, run

_CONFIG = config_flags.DEFINE_config_file("config", None, "The pipeline: a file in configs/.")
_WORKDIR = flags.DEFINE_string("workdir", None, "Folder of the pipeline.")

_TRAIN_FLAGS = flags.DEFINE_multi_string(
    "train_flag", [], "Given to every training, such as --config.training.steps=10. Repeatable."
)

_COMPILE = flags.DEFINE_string(
    "compile",
    None,
    "Do not train or score: compile the steps of all trainings that are left into this folder, "
    f"with {RUN}, which trains with them.",
)


def _told(config: PipelineConfig) -> tuple[PipelineConfig, list[str]]:
    """The pipeline with the fields that --train_flag changes, and the flags that change none.

    The fields are part of what the workdir remembers: a short trial is not taken for the training.
    """
    field, given = "--config.", _TRAIN_FLAGS.value
    changes = tuple(flag.removeprefix(field) for flag in given if flag.startswith(field))
    others = [flag for flag in given if not flag.startswith(field)]
    return config.replace(changes=(*config.changes, *changes)), others


def _compile(pipeline: Pipeline, steps: pathlib.Path) -> None:
    seconds = run(pipeline.compilations(steps), "distill_pipeline")
    steps.mkdir(parents=True, exist_ok=True)
    (steps / RUN).write_text(pipeline.run_commands(steps))
    print(f"\nDone in {clock(seconds)}. Where these steps shall run: sh {steps / RUN}")


def main() -> None:
    workdir = pathlib.Path(_WORKDIR.value).absolute()  # Programs run in the repository's root.
    config, more = _told(PipelineConfig.from_dict(_CONFIG.value.to_dict()))
    with alone_in(workdir):  # A training locks its own folder, and may outlive a killed pipeline.
        _run(config, workdir, more)


def _run(config: PipelineConfig, workdir: pathlib.Path, more: list[str]) -> None:
    require_same_config(workdir, config)
    pipeline = Pipeline(config, workdir, more)
    if _COMPILE.value:
        _compile(pipeline, pathlib.Path(_COMPILE.value).absolute())
        return
    seconds = run(pipeline.stages(), "distill_pipeline")
    (workdir / "report.md").write_text(pipeline.report())
    print(f"\n{pipeline.report()}\nDone in {clock(seconds)}. Report: {workdir / 'report.md'}")


if __name__ == "__main__":
    flags.mark_flags_as_required(["config", "workdir"])
    run_main(main)
