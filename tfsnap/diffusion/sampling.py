"""Sampling: one loop, and a pure function for a step of each method.

A method is `(denoiser, z, *, step, history, noise) -> (z', history')`:

    z: float latent at `step.start`.
    history: what the method returned with the step before; () before the first.
    noise: draws the step's noise, standard normal in the shape of z; for stochastic methods.
"""

import math
from collections.abc import Callable
from typing import Any

from tfsnap.diffusion.consistency import consistent
from tfsnap.diffusion.denoiser import Denoiser
from tfsnap.diffusion.paths import Path, Step
from tfsnap.diffusion.process import Array, Prediction
from tfsnap.diffusion.schedule import Point

Callback = Callable[[int, int, Array], None]  # (steps done, steps in all, latent) -> None
Noise = Callable[[], Array]
Method = Callable[..., tuple[Array, Any]]

# Adams and Bashforth's coefficients of orders 1 to 4, newest output first.
_ADAMS = (
    (1.0,),
    (3 / 2, -1 / 2),
    (23 / 12, -16 / 12, 5 / 12),
    (55 / 24, -59 / 24, 37 / 24, -9 / 24),
)


def sample(
    method: Method,
    denoiser: Denoiser,
    z: Array,
    *,
    path: Path,
    noise: Callable[[int], Array] | None = None,
    project: Callable[[Array, Point], Array] | None = None,
    callback: Callback | None = None,
) -> Array:
    """Follows `path` from noise to data.

    Args:
      method: a function of this module.
      denoiser: the network.
      z: float latent at `path[0].start`; to start from noise, standard normal.
      path: from `tfsnap.diffusion.paths`.
      noise: the standard normal noise of step k = 0, 1, ..., for stochastic methods.
      project: `(z, point) -> z`, called after every step with the latent and where it is; what it
        returns is gone on with.
      callback: told after every step how many are done, of how many, and the latent.

    Returns:
      The latent at the end, of the shape and type of `z`.
    """
    history: Any = ()
    for k, step in enumerate(path):
        draw = None if noise is None else lambda k=k: noise(k)
        z, history = method(denoiser, z, step=step, history=history, noise=draw)
        if project is not None:
            z = project(z, step.end)
        if callback is not None:
            callback(k + 1, len(path), z)
    return z


def ddim_step(*, prediction: Prediction, end: Point) -> Array:
    """z_t' = alpha_t' x_hat + sigma_t' eps_hat: the deterministic step to an earlier time t' < t.

    Reference: Song et al. 2021 (arXiv 2010.02502), eq. 12 with eta = 0; SnapFusion eq. 2.
    """
    return end.alpha * prediction.x + end.sigma * prediction.eps


def ddim(
    denoiser: Denoiser, z: Array, *, step: Step, history: tuple, noise: Noise | None = None
) -> tuple[Array, tuple]:
    """DDIM, and Euler's method: they differ in their paths only.

    Euler's method solves d(z / alpha) / d(sigma / alpha) = eps, and its step is DDIM's:
    z' / alpha' = z / alpha + (sigma' / alpha' - sigma / alpha) eps.

    Reference: Song et al. 2021 (arXiv 2010.02502), eq. 13.
    """
    del history, noise
    return ddim_step(prediction=denoiser(z, step.start), end=step.end), ()


def euler_ancestral(
    denoiser: Denoiser, z: Array, *, step: Step, history: tuple, noise: Noise | None = None
) -> tuple[Array, tuple]:
    """Euler's method to a lower noise level than wanted, then fresh noise: DDIM with eta = 1.

    Reference: Song et al. 2021 (arXiv 2010.02502), eq. 16; k-diffusion, `get_ancestral_step`.
    """
    del history
    start, end = step
    prediction = denoiser(z, start)
    up = end.ratio * (1.0 - (end.ratio / start.ratio) ** 2) ** 0.5
    down = end.ratio**2 / start.ratio  # down^2 + up^2 = end.ratio^2
    z = end.alpha * (prediction.x + down * prediction.eps)
    return (z if up == 0.0 else z + (end.alpha * up) * noise()), ()


def dpmpp_2m(
    denoiser: Denoiser, z: Array, *, step: Step, history: tuple, noise: Noise | None = None
) -> tuple[Array, tuple]:
    """DPM-Solver++ of second order with multiple steps; of first order, DDIM's, to no noise.

        z' = (sigma' / sigma) z - alpha' (e^-h - 1) D,   D = x + (x - x_before) / (2 r)

    with h the step in lambda = log(alpha / sigma) and r the step before over h.

    Reference: Lu et al. 2022 (arXiv 2211.01095), algorithm 2.
    """
    del noise
    start, end = step
    x = denoiser(z, start).x
    direction = x
    if history and end.sigma > 0.0:
        x_before, before = history
        h, h_before = _lambda(end) - _lambda(start), _lambda(start) - _lambda(before)
        direction = x + (h / (2.0 * h_before)) * (x - x_before)
    eps = (z - start.alpha * direction) / start.sigma  # As alpha' e^-h = alpha sigma' / sigma.
    return end.alpha * direction + end.sigma * eps, (x, start)


def _lambda(point: Point) -> float:
    return -math.log(point.ratio)


def pndm(
    denoiser: Denoiser, z: Array, *, step: Step, history: tuple, noise: Noise | None = None
) -> tuple[Array, tuple]:
    """Linear multistep on the network's outputs, without the Runge-Kutta warm-up (PLMS).

    The first step is done twice, the second time with the mean of the outputs at both its ends, so
    that N steps cost N + 1 evaluations. As in diffusers it is the outputs that are combined, be
    they epsilon or v.

    Reference: Liu et al. 2022 (arXiv 2202.09778), eq. 9 and 12, with the changes of Rombach et al.
    """
    del noise
    outputs = (denoiser.evaluate(z, step.start.t), *history)[: len(_ADAMS)]
    weights = _ADAMS[len(outputs) - 1]
    combined = sum(weight * output for weight, output in zip(weights, outputs, strict=True))

    def advance(output: Array) -> Array:
        return ddim_step(prediction=denoiser.read(output, z=z, point=step.start), end=step.end)

    if not history and step.end.sigma > 0.0:  # Else the network has no time for the far end.
        combined = (combined + denoiser.evaluate(advance(combined), step.end.t)) / 2
    return advance(combined), outputs


def lcm(
    denoiser: Denoiser, z: Array, *, step: Step, history: tuple, noise: Noise | None = None
) -> tuple[Array, tuple]:
    """Multistep consistency sampling: to the data in one go, then back to less noise.

    Reference: Luo et al. 2023 (arXiv 2310.04378), algorithm 3.
    """
    del history
    start, end = step
    clean = consistent(x=denoiser(z, start).x, z_t=z, t=start.t)
    return (clean if end.sigma == 0.0 else end.alpha * clean + end.sigma * noise()), ()
