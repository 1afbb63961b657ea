"""What a pipeline of distillations is told."""

import dataclasses

from tfsnap.config import Config

TEACHER, STUDENT = "teacher", "student"
DATA = ""  # In place of a teacher.


@dataclasses.dataclass(frozen=True)
class PipelineStage(Config):
    """One training.

    Attributes:
      name: of its workdir, and for later stages.
      config: of a UNet, a file in configs/ with its variant.
      teacher: the network whose steps are learnt: "teacher", "student" or an earlier stage; "" for
        a stage that learns from data alone, such as one from epsilon to v.
      init: the network that it starts as, and whose shape it has: one of the same, but never "".
      changes: fields of the config, as flags have them: "distill.gamma=0".
      scored: numbers of steps that it is scored with; none for those it was made for.
    """

    name: str = ""
    config: str = ""
    teacher: str = TEACHER
    init: str = TEACHER
    changes: tuple[str, ...] = ()
    scored: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        self._require("@" not in self.name, "name", "without an @, which files of scores have")
        fits = all("=" in change for change in self.changes)
        self._require(fits, "changes", "fields with their values, such as distill.gamma=0")


@dataclasses.dataclass(frozen=True)
class Comparison(Config):
    """The teacher as it is, to compare with.

    Attributes:
      steps: of the sampler.
      sampler: a name of `tfsnap.diffusion.samplers.SAMPLERS`.
    """

    steps: int = 50
    sampler: str = "ddim"


@dataclasses.dataclass(frozen=True)
class PipelineConfig(Config):
    """Distillations one after another, from trained networks.

    Attributes:
      teacher: workdir of the trained UNet.
      student_unet: shape of the efficient UNet, a preset or a JSON file.
      student: weight file of the efficient UNet.
      autoencoder: weight file that all of them were trained with.
      clip: the same of CLIP.
      stages: the trainings in their order.
      split: captions that pictures are scored with.
      count: pictures that are scored.
      guidance: their guidance scale.
      seed: of their noise.
      compare: how the teacher is scored as it is.
      changes: fields of every stage's config, behind its own changes.
    """

    teacher: str = ""
    student_unet: str = ""
    student: str = ""
    autoencoder: str = ""
    clip: str = ""
    stages: tuple[PipelineStage, ...] = ()
    split: str = "validation+holdout"
    count: int = 72
    guidance: float = 3.0
    seed: int = 0
    compare: tuple[Comparison, ...] = (
        Comparison(50),
        Comparison(8),
        Comparison(8, "dpmpp_2m"),
    )
    changes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        self._require(bool(self.stages or self.compare), "compare", "not empty without stages")
        known = [TEACHER, STUDENT]
        for stage in self.stages:
            for field, more in (("teacher", [DATA]), ("init", [])):
                name = getattr(stage, field)
                if name not in known + more:
                    raise ValueError(
                        f"{field} of stage {stage.name!r} is {name!r}; it must be one of "
                        f"{', '.join(known)}"
                    )
            if not stage.name or stage.name in known:
                raise ValueError(f"a stage is named {stage.name!r}; each needs a name of its own")
            known.append(stage.name)

    def origin(self, name: str) -> str:
        """Whose shape a stage has: "teacher" or "student"."""
        found = {stage.name: stage.init for stage in self.stages}
        while name in found:
            name = found[name]
        return name
