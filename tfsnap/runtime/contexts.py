"""A UNet of one or two contexts a call, on as many as there are."""

from collections.abc import Callable

import numpy as np


def predict_each(
    unet: Callable[..., np.ndarray],
    *,
    contexts: int,
    context: np.ndarray,
    **inputs: np.ndarray,
) -> np.ndarray:
    """Evaluates a UNet for every context, in as few calls as it allows.

    Args:
      unet: takes `inputs` and a `context` and returns the predictions.
      contexts: how many of them it takes in a call, no more and no less.
      context: float32 [N, T, C].
      **inputs: the same for all: `latent`, `time_features` and what else the UNet reads.

    Returns:
      float32 [N, h, w, c].
    """
    predictions = []
    for start in range(0, len(context), contexts):
        rows = context[start : start + contexts]
        # Where one is wanted of a UNet of two, it gets the same twice.
        padded = np.concatenate([rows] + [rows[-1:]] * (contexts - len(rows)))
        found = unet(context=padded, **inputs)
        predictions.append(found[: len(rows)])
    return np.concatenate(predictions)
