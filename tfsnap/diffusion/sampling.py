"""Samplers: pure functions from noise to a latent. Randomness is passed in, never drawn."""

from collections.abc import Callable
from typing import Any

import numpy as np

from tfsnap.diffusion.process import Prediction
from tfsnap.diffusion.schedule import NoiseSchedule

Array = Any
Denoiser = Callable[..., Prediction]  # (z_t, t: int) -> Prediction
Callback = Callable[[int, int, Array], None]  # (steps done, steps in all, latent) -> None


def ddim_step(*, prediction: Prediction, alpha: float, sigma: float) -> Array:
    """z_t' = alpha_t' x_hat + sigma_t' eps_hat: the deterministic step to an earlier time t' < t.

    Reference: Song et al. 2021 (arXiv 2010.02502), eq. 12 with eta = 0; SnapFusion eq. 2.
    """
    return alpha * prediction.x + sigma * prediction.eps


def ddim(
    denoiser: Denoiser,
    z: Array,
    *,
    timesteps: np.ndarray,
    schedule: NoiseSchedule,
    callback: Callback | None = None,
) -> Array:
    """Samples deterministically along `timesteps` and then to t = -1, pure signal.

    Args:
      denoiser: `(z_t, t) -> Prediction`, `t` an int of `timesteps`.
      z: float latent at `timesteps[0]`, for a noise start standard normal.
      timesteps: int [N], falling, from `spaced_timesteps`.
      schedule: the noise schedule that the denoiser was trained with.
      callback: told after every step how many are done, of how many, and the latent.

    Returns:
      The clean latent, of the shape and type of `z`.
    """
    ends = np.append(timesteps[1:], -1)
    for i, (t, end) in enumerate(zip(timesteps, ends, strict=True)):
        z = ddim_step(
            prediction=denoiser(z, int(t)),
            alpha=float(schedule.alpha(end)),
            sigma=float(schedule.sigma(end)),
        )
        if callback is not None:
            callback(i + 1, len(timesteps), z)
    return z
