"""Step distillation: a student learns to take in one step what its teacher takes in several."""

import dataclasses
import functools
from typing import ClassVar

import tensorflow as tf
import tf_keras as keras

from tfsnap.diffusion.paths import Spacing, spaced_path
from tfsnap.diffusion.process import add_noise
from tfsnap.objectives.base import Batch, Draws, Losses
from tfsnap.objectives.denoise import Denoise
from tfsnap.objectives.guidance import CfgAware, Evaluation, once
from tfsnap.objectives.points import Amplitudes, PathPoints, Predictor, ddim_step

# Streams of `Draws`, apart from those of `Denoise`.
_TIME, _NOISE, _LATENT, _SCALE, _COIN = range(10, 15)


def step_target(
    *, z_t: tf.Tensor, z_end: tf.Tensor, start: Amplitudes, end: Amplitudes
) -> tf.Tensor:
    """x_target = (z_t'' - r z_t) / (alpha_t'' - r alpha_t), r = sigma_t'' / sigma_t (eq. 8).

    The latent from which one DDIM step leads from z_t at t to z_t'' at t''.

    Args:
      z_t: where the step begins.
      z_end: where it ends, z_t''.
      start: amplitudes at t.
      end: amplitudes at t''; less noise, none at the end of a path.
    """
    ratio = end.sigma / start.sigma
    return (z_end - ratio * z_t) / (end.alpha - ratio * start.alpha)


def truncated_snr(start: Amplitudes) -> tf.Tensor:
    """max(alpha_t^2 / sigma_t^2, 1), the weight of a squared error of x (eq. 9)."""
    return tf.maximum(tf.square(start.alpha) / tf.square(start.sigma), 1.0)


def rescaled(loss: tf.Tensor, like: tf.Tensor) -> tf.Tensor:
    """A loss [B] in the size of another, whose gradients keep their directions: "dynamic gamma".

    Each example's loss is divided by its own value and multiplied by the other's, both constants.
    The two are of independent times, so that the mean of the gradients is that of log(loss) times
    the other's mean. The paper says that the losses are brought to one size, not how.
    """
    return loss * tf.stop_gradient(like / tf.maximum(loss, 1e-12))


@dataclasses.dataclass(frozen=True)
class Teacher:
    """A frozen network whose steps are learnt.

    Attributes:
      network: a UNet.
      prediction: of its output, "epsilon" or "v".
      steps: of its path for each of the student's.
    """

    network: keras.Model
    prediction: str
    steps: int = 1


@dataclasses.dataclass(frozen=True)
class StepDistill:
    """L = L_dstl + gamma L_ori, L_ori in L_dstl's size (SnapFusion section 4).

    L_dstl = max(alpha_t^2 / sigma_t^2, 1) || x_hat - x_target ||^2, averaged over the latent: the
    student's step from t against its teacher's steps to the same t''. In each training step it is
    L_cfg, where w v(c) - (w - 1) v(null) takes the place of every v, with `cfg.probability`, and
    else L_vani.

    Attributes:
      denoise: L_ori; it knows the student's prediction, the schedule and the latent's scale.
      teacher: see `Teacher`.
      steps: of the student's path.
      cfg: None is vanilla throughout.
      gamma: weight of L_ori; 0 leaves it out.

    Batch: as `Denoise`.
    """

    separable: ClassVar[bool] = True

    denoise: Denoise
    teacher: Teacher
    steps: int
    cfg: CfgAware | None = None
    gamma: float = 0.2

    def __post_init__(self) -> None:
        if self.cfg and self.cfg.baked and self.gamma:
            raise ValueError(
                f"gamma is {self.gamma}; it must be 0 where guidance is baked in: L_ori asks for "
                "what the student predicts without guidance"
            )

    def __call__(self, model: keras.Model, batch: Batch, draws: Draws) -> Losses:
        """Returns the loss of each example, and `distill` and, if there is one, `ori`."""
        context = self.denoise.context(batch)
        x = self.denoise.latent(batch, draws, stream=_LATENT)
        eps = draws.normal(x.shape[1:], stream=_NOISE)
        step = draws.integers(high=self.steps, stream=_TIME)
        start = self._points.amplitudes(step * self.teacher.steps)
        z_t = add_noise(x=x, eps=eps, alpha=start.alpha, sigma=start.sigma)
        distill = self._distill(model, z_t, step, context, draws)
        if not self.gamma:
            return distill, {"distill": distill}
        ori, _ = self.denoise(model, batch, draws)
        loss = distill + self.gamma * rescaled(ori, distill)
        return loss, {"distill": distill, "ori": ori}

    def _distill(
        self,
        model: keras.Model,
        z_t: tf.Tensor,
        step: tf.Tensor,
        context: tf.Tensor,
        draws: Draws,
    ) -> tf.Tensor:
        """L_dstl of each example: the kind is drawn for the whole batch."""

        def compared(
            teacher: Evaluation, student: Evaluation, scale: tf.Tensor | None = None
        ) -> tf.Tensor:
            asked = functools.partial(Predictor, points=self._points, context=context, scale=scale)
            return self._compared(
                z_t,
                step,
                teacher=asked(self.teacher.network, self.teacher.prediction, teacher),
                student=asked(model, self.denoise.prediction, student),
            )

        if self.cfg is None:
            return compared(once, once)
        scale = self.cfg.scale(draws, stream=_SCALE)
        guided = functools.partial(compared, self.cfg.teacher, self.cfg.student, scale)
        if self.cfg.probability == 1.0:
            return guided()
        (coin,) = tf.unstack(draws.coins(1, probability=self.cfg.probability, stream=_COIN))
        return tf.cond(coin, guided, functools.partial(compared, once, once))

    def _compared(
        self, z_t: tf.Tensor, step: tf.Tensor, *, teacher: Predictor, student: Predictor
    ) -> tf.Tensor:
        """The student's step against its teacher's: eqs. 7 to 9, or 10 with guidance."""
        each, z = self.teacher.steps, z_t
        first = step * each
        for place in range(each):
            z = ddim_step(teacher(z, first + place), self._points.amplitudes(first + place + 1))
        start, end = self._points.amplitudes(first), self._points.amplitudes(first + each)
        target = tf.stop_gradient(step_target(z_t=z_t, z_end=z, start=start, end=end))
        error = truncated_snr(start) * tf.square(student(z_t, first).x - target)
        return tf.reduce_mean(error, axis=[1, 2, 3])

    @functools.cached_property
    def _points(self) -> PathPoints:
        """Those of the teacher's path, its end included."""
        steps = self.steps * self.teacher.steps
        return PathPoints(spaced_path(self.denoise.schedule, steps, Spacing()))
