"""The variance-preserving noise schedule: z_t = alpha_t x + sigma_t eps."""

import dataclasses
import functools
from typing import NamedTuple

import numpy as np

from tfsnap.config import ScheduleConfig

END = -1  # The time at which there is no noise.


class Point(NamedTuple):
    """A place between data and noise, in Python floats, so that float32 latents stay float32.

    Attributes:
      t: time in training steps, what the network is told; it may lie between two of them.
      alpha: signal amplitude.
      sigma: noise amplitude; alpha^2 + sigma^2 = 1.
    """

    t: float
    alpha: float
    sigma: float

    @property
    def ratio(self) -> float:
        """sigma / alpha, the noise level of Karras et al. 2022 (arXiv 2206.00364)."""
        return self.sigma / self.alpha


@dataclasses.dataclass(frozen=True)
class NoiseSchedule:
    """alpha_t and sigma_t of a discrete schedule, with alpha_t^2 + sigma_t^2 = 1.

    Time `t` is an integer training step in 0 .. steps - 1; larger is noisier. The end of sampling
    is written t = -1: there alpha = 1 and sigma = 0, pure signal.

    Example:
      >>> schedule = NoiseSchedule(ScheduleConfig())
      >>> round(float(schedule.alpha(0)) ** 2, 5)
      0.99915

    Reference: Ho et al. 2020 (arXiv 2006.11239), eq. 4; SnapFusion section 2.1.
    """

    config: ScheduleConfig = ScheduleConfig()

    @functools.cached_property
    def _alphas_bar(self) -> np.ndarray:
        """alpha_t^2 for t = 0 .. steps - 1, then 1 for t = -1: float64 [steps + 1]."""
        c = self.config
        if c.kind == "scaled_linear":
            betas = np.linspace(c.beta_start**0.5, c.beta_end**0.5, c.steps) ** 2
        else:
            betas = np.linspace(c.beta_start, c.beta_end, c.steps)
        return np.append(np.cumprod(1.0 - betas), 1.0)

    @property
    def steps(self) -> int:
        """Number of training steps."""
        return self.config.steps

    def alpha(self, t: np.ndarray | int) -> np.ndarray:
        """Signal amplitude alpha_t, float64, of the shape of `t`.

        Raises:
          ValueError: a time is none of the schedule's.
        """
        return np.sqrt(self._alpha_bar(t))

    def sigma(self, t: np.ndarray | int) -> np.ndarray:
        """Noise amplitude sigma_t, float64, of the shape of `t`.

        Raises:
          ValueError: a time is none of the schedule's.
        """
        return np.sqrt(1.0 - self._alpha_bar(t))

    def _alpha_bar(self, t: np.ndarray | int) -> np.ndarray:
        """alpha_t^2. Indexing alone would count from the end, where there is no noise."""
        times = np.asarray(t)
        wrong = times[(times < END) | (times >= self.steps)]
        if wrong.size:
            raise self._not_on_it(wrong[0])
        return self._alphas_bar[t]

    def _not_on_it(self, t: float) -> ValueError:
        return ValueError(f"time {t} is not on a schedule of {self.steps} steps")

    def logsnr(self, t: np.ndarray | int) -> np.ndarray:
        """log(alpha_t^2 / sigma_t^2), float64, of the shape of `t`; infinite at t = -1.

        Raises:
          ValueError: a time is none of the schedule's.
        """
        with np.errstate(divide="ignore"):
            return 2.0 * (np.log(self.alpha(t)) - np.log(self.sigma(t)))

    @functools.cached_property
    def ratios(self) -> np.ndarray:
        """sigma_t / alpha_t for t = 0 .. steps - 1: float64, rising."""
        times = np.arange(self.steps)
        return self.sigma(times) / self.alpha(times)

    def point(self, t: float) -> Point:
        """The point at time `t`, an integer or, by interpolating sigma / alpha, one between two.

        Raises:
          ValueError: `t` is none of the schedule's.
        """
        if not END <= t <= self.steps - 1 or END < t < 0:
            raise self._not_on_it(t)
        if t == END:
            return Point(END, 1.0, 0.0)
        return self.point_of_ratio(float(np.interp(t, np.arange(self.steps), self.ratios)), t=t)

    def point_of_ratio(self, ratio: float, *, t: float | None = None) -> Point:
        """The point at which sigma / alpha is `ratio`.

        Args:
          ratio: positive.
          t: what the network is told there; by default the nearest training step, in the sense that
            log(sigma / alpha) is linear between two.
        """
        if t is None:
            t = np.round(np.interp(np.log(ratio), np.log(self.ratios), np.arange(self.steps)))
        alpha = (1.0 + ratio**2) ** -0.5
        return Point(float(t), alpha, ratio * alpha)
