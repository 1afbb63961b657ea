"""The forward process and the three ways of writing a prediction.

    z_t = alpha_t x + sigma_t eps          v = alpha_t eps - sigma_t x

`alpha` and `sigma` broadcast against the latents: floats, or arrays of shape [B, 1, 1, 1].
"""

from typing import Any, NamedTuple

Array = Any  # A numpy array or a TensorFlow tensor: only arithmetic operators are used.


class Prediction(NamedTuple):
    """One estimate of the clean latent, written three ways; each has the latent's shape."""

    x: Array
    eps: Array
    v: Array


def add_noise(*, x: Array, eps: Array, alpha: Array, sigma: Array) -> Array:
    """z_t = alpha_t x + sigma_t eps (SnapFusion eq. 1)."""
    return alpha * x + sigma * eps


def velocity(*, x: Array, eps: Array, alpha: Array, sigma: Array) -> Array:
    """v = alpha_t eps - sigma_t x (Salimans & Ho 2022, arXiv 2202.00512, section 4)."""
    return alpha * eps - sigma * x


def from_epsilon(*, z_t: Array, eps: Array, alpha: Array, sigma: Array) -> Prediction:
    """x = (z_t - sigma_t eps) / alpha_t."""
    x = (z_t - sigma * eps) / alpha
    return Prediction(x=x, eps=eps, v=velocity(x=x, eps=eps, alpha=alpha, sigma=sigma))


def from_velocity(*, z_t: Array, v: Array, alpha: Array, sigma: Array) -> Prediction:
    """x = alpha_t z_t - sigma_t v and eps = sigma_t z_t + alpha_t v."""
    return Prediction(x=alpha * z_t - sigma * v, eps=sigma * z_t + alpha * v, v=v)


def interpret(
    parametrisation: str, *, z_t: Array, output: Array, alpha: Array, sigma: Array
) -> Prediction:
    """Reads a network's raw output as a `Prediction`.

    Args:
      parametrisation: "epsilon" or "v".
      z_t: noisy latent.
      output: what the network returned for it, of the same shape.
      alpha: signal amplitude, broadcastable.
      sigma: noise amplitude, broadcastable.

    Raises:
      ValueError: the parametrisation is unknown.
    """
    if parametrisation == "epsilon":
        return from_epsilon(z_t=z_t, eps=output, alpha=alpha, sigma=sigma)
    if parametrisation == "v":
        return from_velocity(z_t=z_t, v=output, alpha=alpha, sigma=sigma)
    raise ValueError(f"prediction is {parametrisation!r}; it must be epsilon or v")
