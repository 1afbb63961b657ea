"""Step distillation: a student learns to take in one step what its teacher takes in several."""

import dataclasses
import functools
from typing import ClassVar, NamedTuple

import tensorflow as tf
import tf_keras as keras

from tfsnap.diffusion.guidance import guide
from tfsnap.diffusion.paths import Spacing, spaced_path
from tfsnap.diffusion.process import Prediction, add_noise, interpret
from tfsnap.diffusion.schedule import NoiseSchedule
from tfsnap.objectives.base import Batch, Draws, Losses
from tfsnap.objectives.denoise import Denoise, looked_up

_RESOLUTION = 2**23  # Of a guidance scale that is drawn: all that float32 tells apart.
# Streams of `Draws`, apart from those of `Denoise`.
_TIME, _NOISE, _LATENT, _SCALE, _COIN = range(10, 15)


class Amplitudes(NamedTuple):
    """Signal and noise at a point of time, each broadcastable against latents."""

    alpha: tf.Tensor
    sigma: tf.Tensor


def ddim_step(prediction: Prediction, end: Amplitudes) -> tf.Tensor:
    """z_t' = alpha_t' x_hat + sigma_t' eps_hat (SnapFusion eq. 7)."""
    return add_noise(x=prediction.x, eps=prediction.eps, alpha=end.alpha, sigma=end.sigma)


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
    steps: int


@dataclasses.dataclass(frozen=True)
class CfgAware:
    """Guidance in the loss (SnapFusion eq. 10).

    Attributes:
      null_context: text embedding of the empty prompt, float [T, C].
      low: least guidance scale; each example draws its own.
      high: largest guidance scale.
      probability: of a step to be with guidance; the others are vanilla.
      baked: the teacher is guided and the student is not, so that it learns what guidance does and
        costs one evaluation a step.
    """

    null_context: tf.Tensor
    low: float
    high: float
    probability: float
    baked: bool = False


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
        start = self._amplitudes(step * self.teacher.steps)
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
        vanilla = Guidance()
        if self.cfg is None:
            return self._compared(model, z_t, step, context, teacher=vanilla, student=vanilla)
        scale = _uniform(draws, self.cfg.low, self.cfg.high)
        guidance = Guidance(scale, self.cfg.null_context)
        student = vanilla if self.cfg.baked else guidance

        def guided() -> tf.Tensor:
            return self._compared(model, z_t, step, context, teacher=guidance, student=student)

        def plain() -> tf.Tensor:
            return self._compared(model, z_t, step, context, teacher=vanilla, student=vanilla)

        if self.cfg.probability == 1.0:
            return guided()
        (coin,) = tf.unstack(draws.coins(1, probability=self.cfg.probability, stream=_COIN))
        return tf.cond(coin, guided, plain)

    def _compared(
        self,
        model: keras.Model,
        z_t: tf.Tensor,
        step: tf.Tensor,
        context: tf.Tensor,
        *,
        teacher: "Guidance",
        student: "Guidance",
    ) -> tf.Tensor:
        """The student's step against its teacher's: eqs. 7 to 9, or 10 with guidance."""
        first, z = step * self.teacher.steps, z_t
        for place in range(self.teacher.steps):
            predicted = self._predict(
                self.teacher.network, self.teacher.prediction, z, first + place, context, teacher
            )
            z = ddim_step(predicted, self._amplitudes(first + place + 1))
        start, end = self._amplitudes(first), self._amplitudes(first + self.teacher.steps)
        target = tf.stop_gradient(step_target(z_t=z_t, z_end=z, start=start, end=end))
        mine = self._predict(model, self.denoise.prediction, z_t, first, context, student)
        error = truncated_snr(start) * tf.square(mine.x - target)
        return tf.reduce_mean(error, axis=[1, 2, 3])

    def _predict(
        self,
        network: keras.Model,
        prediction: str,
        z: tf.Tensor,
        place: tf.Tensor,
        context: tf.Tensor,
        guidance: "Guidance",
    ) -> Prediction:
        """What a network says at places of the teacher's path, int32 [B]."""
        t = tf.gather(tf.constant(self._table[0], tf.float32), place)
        output = guidance.evaluate(network, z, t, context)
        return interpret(prediction, z_t=z, output=output, **self._amplitudes(place)._asdict())

    def _amplitudes(self, place: tf.Tensor) -> Amplitudes:
        """Each float32 [B, 1, 1, 1], at places of the teacher's path, int32 [B]."""
        _, alpha, sigma = self._table
        return Amplitudes(looked_up(alpha, place), looked_up(sigma, place))

    @functools.cached_property
    def _table(self) -> tuple[list[float], ...]:
        """t, alpha and sigma of all points of the teacher's path, its end included."""
        schedule: NoiseSchedule = self.denoise.schedule
        path = spaced_path(schedule, self.steps * self.teacher.steps, Spacing())
        points = [path[0].start, *(step.end for step in path)]
        return tuple(map(list, zip(*points, strict=True)))


@dataclasses.dataclass(frozen=True)
class Guidance:
    """How a network is evaluated: plainly, or with a scale for each example.

    Attributes:
      scale: float [B], or None.
      null_context: of the empty prompt, float [T, C].
    """

    scale: tf.Tensor | None = None
    null_context: tf.Tensor | None = None

    def evaluate(
        self, network: keras.Model, z: tf.Tensor, t: tf.Tensor, context: tf.Tensor
    ) -> tf.Tensor:
        """The output, float32 of z's shape; with guidance both evaluations are one batch."""
        if self.scale is None:
            return tf.cast(network(z, timesteps=t, context=context), tf.float32)
        null = tf.broadcast_to(self.null_context, tf.shape(context))
        both = network(
            tf.concat([z, z], 0),
            timesteps=tf.concat([t, t], 0),
            context=tf.concat([context, null], 0),
        )
        conditional, unconditional = tf.split(tf.cast(both, tf.float32), 2)
        scale = tf.reshape(self.scale, [-1, 1, 1, 1])  # [B, 1, 1, 1]
        return guide(conditional=conditional, unconditional=unconditional, scale=scale)


def _uniform(draws: Draws, low: float, high: float) -> tf.Tensor:
    """Uniform in [low, high], float32 [rows]."""
    drawn = tf.cast(draws.integers(high=_RESOLUTION, stream=_SCALE), tf.float32)
    return low + (high - low) * (drawn + 0.5) / _RESOLUTION
