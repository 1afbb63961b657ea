"""A sampling path for a batch: each example is at a place of its own on it."""

import dataclasses
import functools
from typing import NamedTuple

import tensorflow as tf
import tf_keras as keras

from tfsnap.diffusion.paths import Path
from tfsnap.diffusion.process import Prediction, add_noise, interpret
from tfsnap.objectives.denoise import looked_up
from tfsnap.objectives.guidance import Evaluation


class Amplitudes(NamedTuple):
    """Signal and noise at a point of time, each broadcastable against latents."""

    alpha: tf.Tensor
    sigma: tf.Tensor


@dataclasses.dataclass(frozen=True)
class PathPoints:
    """Time and amplitudes at places of a path: 0 is its noisy end, len(path) the other.

    Attributes:
      path: from `tfsnap.diffusion.paths`.
    """

    path: Path

    @functools.cached_property
    def _columns(self) -> tuple[list[float], ...]:
        points = [self.path[0].start, *(step.end for step in self.path)]
        return tuple(map(list, zip(*points, strict=True)))

    def time(self, place: tf.Tensor) -> tf.Tensor:
        """Training steps, float32 [B], of places int32 [B]."""
        return tf.gather(tf.constant(self._columns[0], tf.float32), place)

    def amplitudes(self, place: tf.Tensor) -> Amplitudes:
        """Each float32 [B, 1, 1, 1], of places int32 [B]."""
        _, alpha, sigma = self._columns
        return Amplitudes(looked_up(alpha, place), looked_up(sigma, place))


def ddim_step(prediction: Prediction, end: Amplitudes) -> tf.Tensor:
    """z_t' = alpha_t' x_hat + sigma_t' eps_hat (SnapFusion eq. 7)."""
    return add_noise(x=prediction.x, eps=prediction.eps, alpha=end.alpha, sigma=end.sigma)


@dataclasses.dataclass(frozen=True)
class Predictor:
    """A network that is asked at the points of a path, for one batch.

    Attributes:
      network: a UNet.
      prediction: of its output, "epsilon" or "v".
      evaluate: how it is evaluated.
      points: of the path.
      context: of the captions, float [B, T, C].
      scale: of guidance, float [B]; None where none is wanted.
    """

    network: keras.Model
    prediction: str
    evaluate: Evaluation
    points: PathPoints
    context: tf.Tensor
    scale: tf.Tensor | None

    def __call__(self, z: tf.Tensor, place: tf.Tensor) -> Prediction:
        """What it says of z, float [B, h, w, c], at places int32 [B]."""
        t = self.points.time(place)
        output = self.evaluate(self.network, z, t, self.context, self.scale)
        amplitudes = self.points.amplitudes(place)._asdict()
        return interpret(self.prediction, z_t=z, output=output, **amplitudes)
