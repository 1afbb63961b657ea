"""The sinusoidal features of time that every UNet of a bundle reads."""

import numpy as np


def time_features(t: float, *, width: int, max_period: float = 10_000.0) -> np.ndarray:
    """[cos(t f_0), cos(t f_1), ..., sin(t f_0), sin(t f_1), ...], f_i = max_period^(-2i / width).

    They are computed outside of the network, in float64: t f_0 goes up to 1000, where half
    precision has steps of 0.5.

    Args:
      t: time, in training steps.
      width: number of features, even.
      max_period: period of the slowest feature over 2 pi, in training steps.

    Returns:
      float32 [1, 1, width].

    Reference: Vaswani et al. 2017 (arXiv 1706.03762), section 3.5; the order is Stable Diffusion's.
    """
    frequencies = max_period ** (-2.0 * np.arange(width // 2) / width)
    angles = t * frequencies
    return np.concatenate([np.cos(angles), np.sin(angles)]).astype(np.float32)[None, None]
