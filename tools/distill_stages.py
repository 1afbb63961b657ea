"""The commands of a pipeline of distillations, where they leave their results, and its report."""

import pathlib
import time

from tfsnap.config import write_json
from tfsnap.training.pipeline import DATA, STUDENT, TEACHER, PipelineConfig, PipelineStage
from tfsnap.training.pipeline_report import Scored, read_object, report
from tfsnap.training.trainer import WEIGHTS
from tools.stages import Stage

_SECONDS = {"train": 300.0, "evaluate": 40.0}  # Guesses, to tell the time left.
_TIMES = "seconds.json"


class Training(Stage):
    """A training whose seconds are added up over its runs, also of those that were interrupted.

    Args:
      seconds_of: JSON file with the seconds of every stage.
      stage: its name.
      arguments: of tools/train.py.
    """

    def __init__(self, seconds_of: pathlib.Path, stage: str, *arguments: str):
        super().__init__(f"train {stage}", _SECONDS["train"], "train", *arguments)
        self._path, self._stage = seconds_of, stage

    def run(self, name: str) -> None:
        """See `Stage`."""
        began = time.monotonic()
        try:
            super().run(name)
        finally:
            seconds = read_object(self._path)
            taken = time.monotonic() - began
            write_json(self._path, {**seconds, self._stage: seconds.get(self._stage, 0) + taken})


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
        self._rows: list[Scored] = []

    def stages(self) -> list[Stage]:
        """Everything that is left to be done, in order."""
        teacher, self._rows = pathlib.Path(self._config.teacher), []
        found = [
            self._evaluation(f"teacher, {how.sampler}", teacher, how.steps, how.sampler)
            for how in self._config.compare
        ]
        for stage in self._config.stages:
            found.append(self._training(stage))
            found += [
                self._evaluation(stage.name, self._workdir / stage.name, steps)
                for steps in stage.scored or (None,)
            ]
        return [stage for stage in found if stage is not None]

    def _weights(self, name: str) -> str:
        """The weight file that a name of the config stands for."""
        if name in (DATA, STUDENT):
            return self._config.student if name else ""
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
        changes = [*(f"{name}={value}" for name, value in fields.items()), *stage.changes]
        flags = [f"--config.{change}" for change in changes]
        if self._config.origin(stage.name) == STUDENT:
            flags.append(f"--unet={self._config.student_unet}")
        return Training(
            self._workdir / _TIMES,
            stage.name,
            f"--config={stage.config}",
            f"--workdir={self._workdir / stage.name}",
            *flags,
            *self._extra,
        )

    def _evaluation(
        self,
        name: str,
        workdir: pathlib.Path,
        steps: int | None = None,
        sampler: str | None = None,
    ) -> Stage | None:
        """Scores a run; None if that is done."""
        c, how = self._config, {"steps": steps, "sampler": sampler}
        given = {key: value for key, value in how.items() if value is not None}
        suffix = "".join(f"-{value}" for value in given.values())
        path = self._workdir / f"scores-{workdir.name}{suffix}.json"
        self._rows.append(Scored(name, workdir, path))
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
            *(f"--{key}={value}" for key, value in given.items()),
        )

    def report(self) -> str:
        """The results in Markdown."""
        return report(self._rows, seconds=self._workdir / _TIMES, split=self._config.split)
