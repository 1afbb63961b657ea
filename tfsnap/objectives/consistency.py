"""Consistency distillation: a student that says the same of all points of a teacher's path."""

import dataclasses
import functools
from typing import ClassVar

import tensorflow as tf
import tf_keras as keras

from tfsnap.diffusion.consistency import consistent
from tfsnap.diffusion.paths import lcm_training_path
from tfsnap.diffusion.process import add_noise
from tfsnap.objectives.base import Batch, Draws, Losses
from tfsnap.objectives.denoise import Denoise
from tfsnap.objectives.guidance import CfgAware, Twice, once
from tfsnap.objectives.points import PathPoints, Predictor, ddim_step
from tfsnap.objectives.step_distill import Teacher

# Streams of `Draws`, apart from those of `Denoise`.
_TIME, _NOISE, _LATENT, _SCALE = range(10, 14)


def pseudo_huber(error: tf.Tensor, width: float) -> tf.Tensor:
    """sqrt(e^2 + c^2) - c for each element: a square below c, and |e| above (diffusers' LCM)."""
    return tf.sqrt(tf.square(error) + width**2) - width


@dataclasses.dataclass(frozen=True)
class Consistency:
    """d(f(z_t, t), f(z_t', t')) with z_t' a DDIM step of the guided teacher from z_t.

    f is `tfsnap.diffusion.consistency.consistent`, t one of the solver's 50 times and t' the next:
    k = 20 of 1,000 training steps are skipped. With guidance the step is one of the augmented
    probability-flow ODE, z_t' = z_t + w Psi(c) - (w - 1) Psi(null): as Psi is affine in the
    prediction, it is the step of the guided prediction.

    The target network is the student itself, its output a constant. The paper's is an average of
    the student, which the trainer keeps out of an objective's reach; Song & Dhariwal 2023 (arXiv
    2310.14189, section 3.2) found that consistency training does better without one, and diffusers'
    recipe for LCM-LoRA has none either.

    Attributes:
      denoise: knows the student's prediction, the schedule and the latent's scale.
      teacher: see `Teacher`; its steps are the solver's.
      cfg: None is without guidance. The student is told the scale or has it baked in.
      huber: c of `pseudo_huber`.

    Batch: as `Denoise`.

    Reference: Luo et al. 2023 (arXiv 2310.04378), algorithm 1.
    """

    separable: ClassVar[bool] = True

    denoise: Denoise
    teacher: Teacher
    cfg: CfgAware | None = None
    huber: float = 0.001

    def __post_init__(self) -> None:
        if self.cfg and (self.cfg.probability != 1.0 or isinstance(self.cfg.student, Twice)):
            raise ValueError(
                "a consistency model has guidance baked in or is told the scale, in every step"
            )

    def __call__(self, model: keras.Model, batch: Batch, draws: Draws) -> Losses:
        """Returns the loss of each example, and the same value under the name `consistency`."""
        context = self.denoise.context(batch)
        x = self.denoise.latent(batch, draws, stream=_LATENT)
        eps = draws.normal(x.shape[1:], stream=_NOISE)
        place = draws.integers(high=len(self._points.path), stream=_TIME)
        z_t = add_noise(x=x, eps=eps, **self._points.amplitudes(place)._asdict())
        teacher, student = self._predictors(model, context, draws)
        z_end = ddim_step(teacher(z_t, place), self._points.amplitudes(place + 1))
        target = tf.stop_gradient(self._consistent(student, tf.stop_gradient(z_end), place + 1))
        error = self._consistent(student, z_t, place) - target
        loss = tf.reduce_mean(pseudo_huber(error, self.huber), axis=[1, 2, 3])
        return loss, {"consistency": loss}

    def _predictors(
        self, model: keras.Model, context: tf.Tensor, draws: Draws
    ) -> tuple[Predictor, Predictor]:
        """Teacher and student."""
        scale = self.cfg.scale(draws, stream=_SCALE) if self.cfg else None
        asked = functools.partial(Predictor, points=self._points, context=context, scale=scale)
        guided, told = (self.cfg.teacher, self.cfg.student) if self.cfg else (once, once)
        return (
            asked(self.teacher.network, self.teacher.prediction, guided),
            asked(model, self.denoise.prediction, told),
        )

    def _consistent(self, student: Predictor, z: tf.Tensor, place: tf.Tensor) -> tf.Tensor:
        """f of the student at places of the path, int32 [B]."""
        t = tf.reshape(self._points.time(place), [-1, 1, 1, 1])  # [B, 1, 1, 1]
        return consistent(x=student(z, place).x, z_t=z, t=t)

    @functools.cached_property
    def _points(self) -> PathPoints:
        return PathPoints(lcm_training_path(self.denoise.schedule))
