"""The consistency function of latent consistency models."""

from tfsnap.diffusion.process import Array

_SIGMA_DATA = 0.5
_TIME_SCALE = 10.0


def consistent(*, x: Array, z_t: Array, t: float | Array) -> Array:
    """f(z_t, t) = c_skip z_t + c_out x, with f(z_0, 0) = z_0 whatever x is.

        c_skip = 0.5^2 / ((10 t)^2 + 0.5^2)          c_out = 10 t / sqrt((10 t)^2 + 0.5^2)

    Args:
      x: what the network says of the clean latent.
      z_t: noisy latent.
      t: time in training steps, broadcastable against latents.

    Reference: Song et al. 2023 (arXiv 2303.01469), eq. 5; Luo et al. 2023 (arXiv 2310.04378),
    section 4.1. The factor of t is that of the latter's code.
    """
    time = _TIME_SCALE * t
    square = time**2 + _SIGMA_DATA**2
    return time / square**0.5 * x + _SIGMA_DATA**2 / square * z_t
