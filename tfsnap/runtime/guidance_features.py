"""The sinusoidal features of the guidance scale, for UNets that read it."""

import numpy as np

from tfsnap.runtime.settings import Guidance

_UNIT = 1_000.0
_MAX_PERIOD = 10_000.0


def guidance_features(scale: float, *, width: int) -> np.ndarray:
    """[sin(a f_0), sin(a f_1), ..., cos(a f_0), cos(a f_1), ...] with a = 1000 (w - 1).

    f_i = 10000^(-i / (width / 2 - 1)). They are computed outside of the network, in float64, for
    the reason that those of time are.

    Args:
      scale: the guidance scale w; 1 is none.
      width: number of features, even.

    Returns:
      float32 [1, 1, width].

    Reference: Meng et al. 2023 (arXiv 2210.03142); order and frequencies are those of latent
    consistency models (Luo et al. 2023, arXiv 2310.04378).
    """
    half = width // 2
    angles = _UNIT * (scale - 1.0) * _MAX_PERIOD ** (-np.arange(half) / (half - 1))
    return np.concatenate([np.sin(angles), np.cos(angles)]).astype(np.float32)[None, None]


def guidance_inputs(guidance: Guidance, scale: float) -> dict[str, np.ndarray]:
    """What a UNet reads of the scale, by the name of its input; nothing for most."""
    if guidance.width is None:
        return {}
    return {"guidance_features": guidance_features(scale, width=guidance.width)}
