"""The variance-preserving noise schedule: z_t = alpha_t x + sigma_t eps."""

import dataclasses
import functools

import numpy as np

from tfsnap.config import ScheduleConfig


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
        """Signal amplitude alpha_t, float64, of the shape of `t`."""
        return np.sqrt(self._alphas_bar[t])

    def sigma(self, t: np.ndarray | int) -> np.ndarray:
        """Noise amplitude sigma_t, float64, of the shape of `t`."""
        return np.sqrt(1.0 - self._alphas_bar[t])

    def logsnr(self, t: np.ndarray | int) -> np.ndarray:
        """log(alpha_t^2 / sigma_t^2), float64, of the shape of `t`; infinite at t = -1."""
        with np.errstate(divide="ignore"):
            return 2.0 * (np.log(self.alpha(t)) - np.log(self.sigma(t)))


def spaced_timesteps(*, steps: int, sampling_steps: int, spacing: str = "trailing") -> np.ndarray:
    """Chooses the training steps at which a sampler evaluates the network.

    Args:
      steps: number of training steps of the schedule.
      sampling_steps: number of network evaluations, 1 .. steps.
      spacing: "trailing" starts at the noisiest step, steps - 1; "leading" starts at
        steps - steps // sampling_steps; "linspace" includes both ends.

    Returns:
      int64 [sampling_steps], strictly falling.

    Raises:
      ValueError: `sampling_steps` is out of range or `spacing` is unknown.

    Reference: Lin et al. 2023 (arXiv 2305.08891), table 2.
    """
    if not 1 <= sampling_steps <= steps:
        raise ValueError(f"steps is {sampling_steps}; it must be between 1 and {steps}")
    # Spelled out: np.arange with a step and np.linspace accumulate rounding errors, and other
    # languages must choose the same steps.
    rank = np.arange(sampling_steps)
    if spacing == "trailing":
        times = np.round(steps - rank * steps / sampling_steps) - 1
    elif spacing == "leading":
        times = (rank * (steps // sampling_steps))[::-1]
    elif spacing == "linspace":
        times = np.round(rank * (steps - 1) / max(sampling_steps - 1, 1))[::-1]
    else:
        raise ValueError(f"spacing is {spacing!r}; it must be trailing, leading or linspace")
    return times.astype(np.int64)
