"""Where a sampler evaluates the network: a path is a sequence of steps from noise to data."""

import itertools
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from tfsnap.diffusion.schedule import END, NoiseSchedule, Point

RHO = 7.0  # Of Karras et al. 2022, appendix D.1.
LCM_TRAINING_STEPS = 50  # Of the solver that latent consistency models are distilled with.


class Step(NamedTuple):
    """From `start` to the less noisy `end`."""

    start: Point
    end: Point


Path = tuple[Step, ...]

SPACINGS = ("trailing", "leading", "linspace")


class Spacing(NamedTuple):
    """How a path's times are chosen.

    Attributes:
      kind: "trailing" starts at the noisiest step, S - 1 of S training steps; "leading" starts at
        (N - 1) (S // N) + offset for N sampling steps; "linspace" includes both ends.
      offset: added to the times of "leading": 1 in Stable Diffusion's own settings.
      end: time of the last point of `spaced_path`: -1, no noise, or 0, the least noisy training
        step, as Stable Diffusion's own settings have it (`set_alpha_to_one=False`).
    """

    kind: str = "trailing"
    offset: int = 0
    end: int = END


def _spaced(steps: int, sampling_steps: int, spacing: Spacing, *, leave_out: int = 0) -> np.ndarray:
    """The times at which a sampler evaluates the network, not yet rounded.

    Args:
      steps: number of training steps of the schedule.
      sampling_steps: number of network evaluations, 1 .. steps.
      spacing: how they are chosen.
      leave_out: how many more of them are chosen, and the least noisy left out.

    Returns:
      float64 [sampling_steps], strictly falling.

    Raises:
      ValueError: `sampling_steps` is out of range or the kind of spacing is unknown.

    Reference: Lin et al. 2023 (arXiv 2305.08891), table 2.
    """
    require_steps(sampling_steps, steps)
    # Spelled out: np.arange with a step and np.linspace accumulate rounding errors, and other
    # languages must choose the same steps.
    count = sampling_steps + leave_out
    rank = np.arange(count)
    if spacing.kind == "trailing":
        return (np.round(steps - rank * steps / count) - 1)[:sampling_steps]
    if spacing.kind == "leading":
        times = (rank * (steps // count))[::-1] + float(spacing.offset)
        if times[0] > steps - 1:
            raise ValueError(
                f"steps is {sampling_steps}; leading times with an offset of {spacing.offset} "
                "would begin beyond the schedule: take fewer"
            )
        return times[:sampling_steps]
    if spacing.kind == "linspace":
        return (rank * (steps - 1) / max(count - 1, 1))[::-1][:sampling_steps]
    raise ValueError(f"spacing is {spacing.kind!r}; it must be trailing, leading or linspace")


def require_steps(steps: int, most: int) -> None:
    """Raises a ValueError unless 1 <= steps <= most."""
    if not 1 <= steps <= most:
        raise ValueError(f"steps is {steps}; it must be between 1 and {most}")


def joined(points: Sequence[Point]) -> Path:
    """The path through N + 1 points, noisiest first: N steps."""
    return tuple(Step(*pair) for pair in itertools.pairwise(points))


def _through(schedule: NoiseSchedule, times: np.ndarray, end: int = END) -> Path:
    return joined([schedule.point(float(t)) for t in (*times, end)])


def spaced_path(schedule: NoiseSchedule, steps: int, spacing: Spacing) -> Path:
    """Evenly spaced training steps: the path of DDIM and PNDM.

    Args:
      schedule: the noise schedule that the network was trained with.
      steps: number of steps, 1 .. `schedule.steps`.
      spacing: where they are.

    Raises:
      ValueError: there are too many steps, or the kind of spacing is unknown.
    """
    times = np.round(_spaced(schedule.steps, steps, spacing))
    return _through(schedule, times, spacing.end)


def euler_path(schedule: NoiseSchedule, steps: int, spacing: Spacing) -> Path:
    """As `spaced_path`, but the times of "linspace" are not rounded, and it ends without noise."""
    return _through(schedule, _spaced(schedule.steps, steps, spacing))


def dpm_path(schedule: NoiseSchedule, steps: int, spacing: Spacing) -> Path:
    """As `spaced_path` with one step more, of which the least noisy is left out: DPM-Solver's.

    Its last step is of first order and would be too short to start at time 0. "trailing" has room
    there and stays as it is. It ends without noise.
    """
    require_steps(steps, schedule.steps)
    extra = int(spacing.kind != "trailing" and steps < schedule.steps)
    times = _spaced(schedule.steps, steps, spacing, leave_out=extra)
    return _through(schedule, np.round(times))


def karras_path(schedule: NoiseSchedule, steps: int, spacing: Spacing) -> Path:
    """Noise levels sigma / alpha whose rho-th roots are evenly spaced, and at last no noise.

    The network is told the nearest training step. `spacing` does not matter.

    Reference: Karras et al. 2022 (arXiv 2206.00364), eq. 5.
    """
    del spacing
    require_steps(steps, schedule.steps)
    least, most = schedule.ratios[[0, -1]] ** (1 / RHO)
    ratios = (most + np.arange(steps) / max(steps - 1, 1) * (least - most)) ** RHO
    return joined([*map(schedule.point_of_ratio, ratios.tolist()), schedule.point(END)])


def lcm_path(schedule: NoiseSchedule, steps: int, spacing: Spacing) -> Path:
    """Times of the solver that latent consistency models are distilled with, evenly chosen.

    It ends without noise. `spacing` does not matter.

    Raises:
      ValueError: there are more steps than the solver has, 50, or it has no times on the schedule.

    Reference: Luo et al. 2023 (arXiv 2310.04378), section 4.3.
    """
    del spacing
    times = _lcm_times(schedule)
    require_steps(steps, len(times))
    return _through(schedule, times[np.arange(steps) * len(times) // steps])


def lcm_training_path(schedule: NoiseSchedule) -> Path:
    """The steps of the solver that latent consistency models are distilled with.

    The last one leads to t = 0, the least noisy training step, where a consistency function is the
    identity.

    Raises:
      ValueError: the solver has no times on the schedule.

    Reference: Luo et al. 2023 (arXiv 2310.04378), section 4.3.
    """
    return _through(schedule, _lcm_times(schedule), end=0)


def _lcm_times(schedule: NoiseSchedule) -> np.ndarray:
    most = min(LCM_TRAINING_STEPS, schedule.steps)
    if schedule.steps % most:  # They would end short of the noisiest, which sampling begins with.
        raise ValueError(
            f"the schedule has {schedule.steps} steps; for latent consistency they must be at most "
            f"{LCM_TRAINING_STEPS}, or a multiple of it"
        )
    return np.arange(most, 0, -1) * (schedule.steps // most) - 1
