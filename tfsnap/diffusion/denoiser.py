"""A denoising network as samplers see it."""

import dataclasses
from collections.abc import Callable

from tfsnap.diffusion.process import Array, Prediction, interpret
from tfsnap.diffusion.schedule import Point


@dataclasses.dataclass(frozen=True)
class Denoiser:
    """A network and what its output means.

    Attributes:
      evaluate: `(z_t, t) -> output` of the shape of z_t, guidance included; t is a float.
      parametrisation: of the output, "epsilon" or "v".

    Example:
      >>> denoiser = Denoiser(lambda z, t: unet(z, t), "v")
      >>> denoiser(z, schedule.point(999)).x
    """

    evaluate: Callable[[Array, float], Array]
    parametrisation: str

    def __call__(self, z: Array, point: Point) -> Prediction:
        """Evaluates the network on the noisy latent `z` at `point`."""
        return self.read(self.evaluate(z, point.t), z=z, point=point)

    def read(self, output: Array, *, z: Array, point: Point) -> Prediction:
        """What an output of the network for `z` at `point` says."""
        return interpret(
            self.parametrisation, z_t=z, output=output, alpha=point.alpha, sigma=point.sigma
        )
