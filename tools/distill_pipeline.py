"""Distils a text-to-image model to a few steps: several trainings, each learning from another.

    tools/distill_pipeline.py --config=configs/emoji/pipeline.py --workdir=runs/distill

Runs tools/train.py for every stage of the config and tools/evaluate.py for every result and for the
teacher at some numbers of steps, and prints each command as a user would type it. A stage that is
done is not done again: run the same command again to go on. The workdir gets a folder for each
stage and `report.md`.
"""

import json
import pathlib
import sys

from absl import app, flags
from ml_collections import config_flags

# Programs are run from anywhere: the repository's root holds `configs` and `tools`.
sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))

from tfsnap.training.jobs.runs import require_same_config
from tfsnap.training.pipeline import STUDENT, TEACHER, PipelineConfig, PipelineStage
from tfsnap.training.trainer import WEIGHTS, TrainingError
from tfsnap.weights.store import WeightFileError
from tools.stages import Stage, clock, run

_CONFIG = config_flags.DEFINE_config_file("config", None, "The pipeline: a file in configs/.")
_WORKDIR = flags.DEFINE_string("workdir", None, "Folder of the pipeline.")

_TRAIN_FLAGS = flags.DEFINE_multi_string(
    "train_flag", [], "Given to every training, such as --config.training.steps=10. Repeatable."
)

_SECONDS = {"train": 300.0, "evaluate": 40.0}  # Guesses, to tell the time left.


class Pipeline:
    """The commands of a pipeline, and where they leave their results.

    Args:
      config: what to run.
      workdir: its folder.
      extra: flags for every training.
    """

    def __init__(self, config: PipelineConfig, workdir: pathlib.Path, extra: list[str]):
        self._config = config
        self._workdir = workdir
        self._extra = extra
        self.results: list[tuple[str, pathlib.Path]] = []  # Names, and files of tools/evaluate.py.

    def stages(self) -> list[Stage]:
        """Everything that is left to be done, in order."""
        teacher = pathlib.Path(self._config.teacher)
        found = [
            self._evaluation(f"teacher, {steps} steps", teacher, steps)
            for steps in self._config.compare
        ]
        for stage in self._config.stages:
            found.append(self._training(stage))
            found.append(self._evaluation(stage.name, self._workdir / stage.name))
        return [stage for stage in found if stage is not None]

    def _weights(self, name: str) -> str:
        """The weight file that a name of the config stands for."""
        if name == STUDENT:
            return self._config.student
        folder = self._config.teacher if name == TEACHER else self._workdir / name
        return str(pathlib.Path(folder) / WEIGHTS)

    def _training(self, stage: PipelineStage) -> Stage | None:
        """Trains a network; None if that is done."""
        if pathlib.Path(self._weights(stage.name)).is_file():
            return None
        fields = {
            "autoencoder": self._config.autoencoder,
            "clip": self._config.clip,
            "distill.teacher": self._weights(stage.teacher),
            "training.init": self._weights(stage.init),
        }
        flags_ = [f"--config.{name}={value}" for name, value in fields.items()]
        if self._config.origin(stage.name) == STUDENT:
            flags_.append(f"--unet={self._config.student_unet}")
        return Stage(
            f"train {stage.name}",
            _SECONDS["train"],
            "train",
            f"--config={stage.config}",
            f"--workdir={self._workdir / stage.name}",
            *flags_,
            *self._extra,
        )

    def _evaluation(
        self, name: str, workdir: pathlib.Path, steps: int | None = None
    ) -> Stage | None:
        """Scores a run; None if that is done."""
        c, suffix = self._config, f"-{steps}" if steps else ""
        path = self._workdir / f"scores-{workdir.name}{suffix}.json"
        self.results.append((name, path))
        if path.is_file():
            return None
        return Stage(
            f"score {name}",
            _SECONDS["evaluate"],
            "evaluate",
            f"--workdir={workdir}",
            f"--split={c.split}",
            f"--count={c.count}",
            f"--guidance={c.guidance}",
            f"--seed={c.seed}",
            f"--json={path}",
            *([f"--steps={steps}"] if steps else []),
        )

    def report(self) -> str:
        """The results in Markdown."""
        lines = ["| network | steps | CLIP score | top-1 |", "|---|---|---|---|"]
        for name, path in self.results:
            row = json.loads(path.read_text())
            found = f"{row['clip_score']:.4f} | {row['top1']:.1%}"
            lines.append(f"| {name} | {row['steps']} | {found} |")
        chance, count = row["chance"], row["count"]
        about = f"{count} pictures for captions of {self._config.split}, chance {chance:.2%}."
        return "\n".join([*lines, "", about, ""])


def main(argv: list[str]) -> None:
    workdir = pathlib.Path(_WORKDIR.value).absolute()  # Programs run in the repository's root.
    if len(argv) > 1:
        raise app.UsageError(f"unexpected argument {argv[1]!r}")
    try:
        config = PipelineConfig.from_dict(_CONFIG.value.to_dict())
        require_same_config(workdir, config.to_dict())
    except (OSError, TrainingError, ValueError, WeightFileError) as error:
        sys.exit(f"distill_pipeline: {error}")
    pipeline = Pipeline(config, workdir, _TRAIN_FLAGS.value)
    seconds = run(pipeline.stages(), "distill_pipeline")
    (workdir / "report.md").write_text(pipeline.report())
    print(f"\n{pipeline.report()}\nDone in {clock(seconds)}. Report: {workdir / 'report.md'}")


if __name__ == "__main__":
    flags.mark_flags_as_required(["config", "workdir"])
    app.run(main)
