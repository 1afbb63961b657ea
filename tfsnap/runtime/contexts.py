"""A UNet of one or two contexts a call, on as many as there are."""

from collections.abc import Callable

import numpy as np


def predict_each(
    unet: Callable[..., np.ndarray],
    *,
    contexts: int,
    latent: np.ndarray,
    time_features: np.ndarray,
    context: np.ndarray,
) -> np.ndarray:
    """Evaluates a UNet for every context, in as few calls as it allows.

    Args:
      unet: takes `latent`, `time_features` and `context` and returns the predictions.
      contexts: how many of them it takes in a call, no more and no less.
      latent: float32 [1, h, w, c].
      time_features: float32 [1, 1, F].
      context: float32 [N, T, C].

    Returns:
      float32 [N, h, w, c].
    """
    predictions = []
    for start in range(0, len(context), contexts):
        rows = context[start : start + contexts]
        # Where one is wanted of a UNet of two, it gets the same twice.
        padded = np.concatenate([rows] + [rows[-1:]] * (contexts - len(rows)))
        found = unet(latent=latent, time_features=time_features, context=padded)
        predictions.append(found[: len(rows)])
    return np.concatenate(predictions)
