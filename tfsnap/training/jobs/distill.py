"""What a UNet is told that learns the steps of another."""

import dataclasses

import tensorflow as tf

from tfsnap.config import Config
from tfsnap.diffusion.paths import LCM_TRAINING_STEPS
from tfsnap.models.latent_diffusion import SAMPLER, Distilled
from tfsnap.objectives.consistency import Consistency
from tfsnap.objectives.denoise import Denoise
from tfsnap.objectives.guidance import CfgAware, Twice, once, told
from tfsnap.objectives.step_distill import StepDistill, Teacher
from tfsnap.training.config import PRECISIONS
from tfsnap.training.precision import computing_in
from tfsnap.weights.archive import Trained, load_trained


@dataclasses.dataclass(frozen=True)
class DistillConfig(Config):
    """Step distillation (SnapFusion, section 4); see `tfsnap.objectives.step_distill`.

    A student that reads the guidance scale (`UNetConfig.guidance_width`) is told the scales that
    are drawn: w-conditioned distillation (Meng et al. 2023, arXiv 2210.03142). Its stage one is as
    many steps as its teacher's, all of the schedule's; stage two has the result as its teacher.

    Attributes:
      teacher: weight file of the UNet whose steps are learnt; "" learns from data alone.
      steps: of the student.
      teacher_steps: of the teacher on the same path, a multiple of `steps`.
      cfg_probability: of a training step to be with guidance, p in the paper.
      guidance: least and largest guidance scale, the CFG range in the paper.
      baked: the student learns what the teacher does with guidance, and then does without: one
        evaluation a step. The range is then one scale, the probability 1 and gamma 0.
      gamma: weight of the loss on data.
      consistency: learns what latent consistency models do, see `tfsnap.objectives.consistency`,
        for the sampler "lcm". `steps` are then its usual ones, `teacher_steps` the solver's 50, and
        `gamma` 0. With guidance the probability is 1, and it is baked in or the student reads it.
      huber: width of its loss.
      precision: what the teacher computes in.
    """

    teacher: str = ""
    steps: int = 8
    teacher_steps: int = 16
    cfg_probability: float = 0.1
    guidance: tuple[float, float] = (2.0, 14.0)
    baked: bool = False
    gamma: float = 0.2
    consistency: bool = False
    huber: float = 0.001
    precision: str = "float32"

    def __post_init__(self) -> None:
        self._require(self.steps >= 1, "steps", "at least 1")
        if self.consistency:
            self._require_consistency()
        else:
            fits = self.teacher_steps >= self.steps and self.teacher_steps % self.steps == 0
            self._require(fits, "teacher_steps", f"a multiple of steps={self.steps}")
        self._require(0 <= self.cfg_probability <= 1, "cfg_probability", "between 0 and 1")
        rising = len(self.guidance) == 2 and 0 <= self.guidance[0] <= self.guidance[1]
        self._require(rising, "guidance", "two scales, the least first")
        self._require(self.gamma >= 0, "gamma", "at least 0")
        self._require(self.precision in PRECISIONS, "precision", f"one of {', '.join(PRECISIONS)}")
        if self.baked:
            one = self.guidance[0] == self.guidance[1]
            self._require(one, "guidance", "one scale, given twice, where guidance is baked in")
            self._require(self.cfg_probability == 1, "cfg_probability", "1 where it is baked in")
            self._require(self.gamma == 0, "gamma", "0 where guidance is baked in")

    def _require_consistency(self) -> None:
        most = LCM_TRAINING_STEPS
        self._require(self.steps <= most, "steps", f"at most {most} of a consistency model")
        fits = self.teacher_steps == most
        self._require(fits, "teacher_steps", f"{most}, the solver's, of a consistency model")
        self._require(self.gamma == 0, "gamma", "0 for a consistency model")
        fits = self.cfg_probability in (0, 1)
        self._require(fits, "cfg_probability", "0 or 1 for a consistency model")
        self._require(self.huber > 0, "huber", "positive")

    def load_teacher(self) -> Trained:
        """The teacher, frozen.

        Raises:
          WeightFileError: its file is missing or damaged.
          ValueError: it cannot teach what is asked for.
        """
        with computing_in(self.precision):
            found = load_trained(self.teacher, "unet")
        found.model.trainable = False
        if self._baked_into(found) is not None and (self.cfg_probability or self.gamma):
            raise ValueError(
                f"guidance is baked into {self.teacher}: distill.cfg_probability and distill.gamma "
                f"must be 0, and are {self.cfg_probability} and {self.gamma}"
            )
        return found

    def objective(
        self, denoise: Denoise, teacher: Trained, null_context: tf.Tensor, *, conditioned: bool
    ) -> StepDistill | Consistency:
        """The loss.

        Args:
          denoise: the loss on data.
          teacher: from `load_teacher`.
          null_context: text embedding of the empty prompt, float [T, C].
          conditioned: whether the student reads the guidance scale.

        Raises:
          ValueError: guidance cannot come from the teacher to the student.
        """
        prediction = teacher.about.get("prediction", denoise.prediction)
        cfg = self._cfg(teacher, tf.cast(null_context, tf.float32), conditioned)
        if self.consistency:
            return Consistency(denoise, Teacher(teacher.model, prediction), cfg, self.huber)
        frozen = Teacher(teacher.model, prediction, self.teacher_steps // self.steps)
        return StepDistill(denoise, frozen, self.steps, cfg, self.gamma)

    def _cfg(self, teacher: Trained, null: tf.Tensor, conditioned: bool) -> CfgAware | None:
        """How teacher and student are guided; None for not at all."""
        reads = teacher.model.config.guidance_width is not None
        if conditioned and self._baked_into(teacher) is not None:
            raise ValueError(
                f"guidance is baked into {self.teacher}, which has one scale to teach: the student "
                "must not read it (model.guidance_width), or learn from another teacher"
            )
        if conditioned and (self.baked or not self.cfg_probability):
            raise ValueError(
                "the student reads the guidance scale (model.guidance_width): distill.baked must "
                "be False and distill.cfg_probability above 0, as scales are learnt in those steps"
            )
        if not self.cfg_probability:
            return None
        if reads and not (conditioned or self.baked):
            raise ValueError(
                f"{self.teacher} reads the guidance scale: so must its student, by "
                "model.guidance_width, or have it baked in, by distill.baked"
            )
        if self.consistency and not (conditioned or self.baked):
            raise ValueError(
                "a consistency model has guidance baked in (distill.baked), reads the scale "
                "(model.guidance_width), or is without it (distill.cfg_probability=0)"
            )
        alone = once if self.baked else Twice(null)
        return CfgAware(
            *self.guidance,
            teacher=told if reads else Twice(null),
            student=told if conditioned else alone,
            probability=self.cfg_probability,
        )

    def result(self, teacher: Trained) -> Distilled:
        """What the student can do in the end."""
        guidance = self.guidance[0] if self.baked else self._baked_into(teacher)
        return Distilled(self.steps, guidance, "lcm" if self.consistency else SAMPLER)

    def _baked_into(self, teacher: Trained) -> float | None:
        before = Distilled.of(teacher.about)
        return before.guidance if before else None
