"""What a pipeline of distillations is told."""

import dataclasses

from tfsnap.config import Config

TEACHER, STUDENT = "teacher", "student"


@dataclasses.dataclass(frozen=True)
class PipelineStage(Config):
    """One training.

    Attributes:
      name: of its workdir, and for later stages.
      config: of a UNet with a teacher, a file in configs/ with its variant.
      teacher: the network whose steps are learnt: "teacher", "student" or an earlier stage.
      init: the network that it starts as, and whose shape it has: one of the same.
    """

    name: str = ""
    config: str = ""
    teacher: str = TEACHER
    init: str = TEACHER


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
      compare: numbers of steps that the teacher is scored with as it is.
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
    compare: tuple[int, ...] = (50, 8)

    def __post_init__(self) -> None:
        known = [TEACHER, STUDENT]
        for stage in self.stages:
            for field in ("teacher", "init"):
                name = getattr(stage, field)
                if name not in known:
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
