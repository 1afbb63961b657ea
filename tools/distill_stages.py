"""The commands of a pipeline of distillations, where they leave their results, and its report."""

import pathlib
import shlex
import time

from tfsnap.config import write_json
from tfsnap.training.jobs.runs import is_finished
from tfsnap.training.pipeline import DATA, STUDENT, TEACHER, PipelineConfig, PipelineStage
from tfsnap.training.pipeline_report import Scored, read_object, report
from tfsnap.training.portable_weights import UNTRAINED, save_untrained
from tfsnap.training.trainer import WEIGHTS
from tools.program import ROOT
from tools.stages import Stage

_SECONDS = {"train": 300.0, "evaluate": 40.0, "compile": 60.0}  # Guesses, to tell the time left.
_TIMES = "seconds.json"
_DATA = "data"  # In a folder of compiled steps, what all of them train on.
RUN = "run.sh"  # There, the commands that train with them.


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


def _from_root(path: pathlib.Path) -> str:
    """A path as the programs read it, which are run from the repository's root, on any machine."""
    return str(path.relative_to(ROOT) if path.is_relative_to(ROOT) else path)


class Compilation(Stage):
    """Compiles the step of a training, and leaves weights for those that build on its result.

    Args:
      folder: gets the step.
      stage: name of the training.
      arguments: of tools/compile_step.py besides its folder.
    """

    def __init__(self, folder: pathlib.Path, stage: str, *arguments: str):
        given = (*arguments, f"--output={folder}", f"--data={folder.parent / _DATA}")
        super().__init__(f"compile {stage}", _SECONDS["compile"], "compile_step", *given)
        self._folder = folder

    def run(self, name: str) -> None:
        """See `Stage`."""
        super().run(name)
        save_untrained(self._folder)


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

    def compilations(self, steps: pathlib.Path) -> list[Stage]:
        """What compiles the trainings that are left, in order, for a device without TensorFlow.

        Args:
          steps: folder that gets a folder for each of them.
        """
        return [
            Compilation(steps / stage.name, stage.name, *self._flags(stage, steps))
            for stage in self._left()
            if not (steps / stage.name / UNTRAINED).is_file()
        ]

    def run_commands(self, steps: pathlib.Path) -> str:
        """A shell script, for the repository's root, that trains with what `compilations` made."""
        lines = [
            "# Trains the steps beside it, one after another; run it again to go on.",
            "set -e",
        ]
        left = self._left()
        names = {stage.name for stage in left}
        for stage in left:
            paths = {"data": steps / _DATA, "workdir": self._workdir / stage.name}
            for flag, other in (("init", stage.init), ("frozen", stage.teacher)):
                if other in names:  # All else was there when it was compiled.
                    paths[flag] = pathlib.Path(self._weights(other))
            words = ["python3", "tools/run_step.py", _from_root(steps / stage.name)]
            words += [f"--{flag}={_from_root(path)}" for flag, path in paths.items()]
            lines.append(shlex.join(words))
        return "\n".join([*lines, ""])

    def _left(self) -> list[PipelineStage]:
        """The trainings that are not done, or that another machine did and this has to finish."""
        return [stage for stage in self._config.stages if not self._is_done(stage)]

    def _is_done(self, stage: PipelineStage) -> bool:
        return is_finished(self._workdir / stage.name)

    def _weights(self, name: str, steps: pathlib.Path | None = None) -> str:
        """The weight file that a name of the config stands for.

        Args:
          name: of a stage, "teacher", "student" or "".
          steps: folder of compiled steps, whose untrained weights stand for those that are not
            there yet; None for what will be there.
        """
        if name in (DATA, STUDENT):
            return self._config.student if name else ""
        folder = self._config.teacher if name == TEACHER else self._workdir / name
        path = pathlib.Path(folder) / WEIGHTS
        if steps is not None and name != TEACHER and not path.is_file():
            path = steps / name / UNTRAINED
        return str(path)

    def _training(self, stage: PipelineStage) -> Stage | None:
        """Trains a network; None if that is done."""
        if self._is_done(stage):
            return None
        workdir = f"--workdir={self._workdir / stage.name}"
        return Training(self._workdir / _TIMES, stage.name, workdir, *self._flags(stage))

    def _flags(self, stage: PipelineStage, steps: pathlib.Path | None = None) -> list[str]:
        """What a training is told; `steps` as for `_weights`."""
        fields = {
            "autoencoder": self._config.autoencoder,
            "clip": self._config.clip,
            "distill.teacher": self._weights(stage.teacher, steps),
            "training.init": self._weights(stage.init, steps),
        }
        own = [f"{name}={value}" for name, value in fields.items()]
        changes = [*own, *stage.changes, *self._config.changes]
        flags = [f"--config.{change}" for change in changes]
        if self._config.origin(stage.name) == STUDENT:
            flags.append(f"--unet={self._config.student_unet}")
        return [f"--config={stage.config}", *flags, *self._extra]

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
        # No stage's name has an @: not two of them can share a file.
        suffix = "@" + "-".join(map(str, given.values())) if given else ""
        path = self._workdir / f"scores-{workdir.name}{suffix}.json"
        self._rows.append(Scored(name, ROOT / workdir, path))  # Programs run in the root.
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
