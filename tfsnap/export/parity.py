"""Is what was exported still the network that was trained?"""

from collections.abc import Sequence

import numpy as np

from tfsnap.errors import TfsnapError
from tfsnap.export.keras_components import Call, Evaluate

# Decibels below which an export fails. fp16 and int8_weights only round weights; the others also
# quantise activations, int8_full in ranges that were fixed before.
THRESHOLDS_DB = {
    "fp16": 50.0,
    "int8": 25.0,
    "int8_weights": 30.0,
    "int8_full": 20.0,
    "int16": 30.0,
}


class ParityError(TfsnapError, ValueError):
    """An exported component does not compute what the Keras model does."""


def psnr_db(reference: np.ndarray, other: np.ndarray) -> float:
    """Peak signal-to-noise ratio: 10 log10(range^2 / mean squared error).

    Args:
      reference: array whose range, maximum less minimum, is the peak.
      other: array of the same shape.

    Returns:
      Decibels; infinite for equal arrays.
    """
    peak = float(reference.max() - reference.min())
    error = float(np.mean(np.square(reference.astype(np.float64) - other)))
    return float("inf") if error == 0 else 10.0 * np.log10(peak**2 / error)


def check_parity(
    name: str, network: Evaluate, calls: Sequence[Call], *, threshold_db: float
) -> float:
    """Repeats recorded evaluations with a converted network.

    Args:
      name: of the component, for the message.
      network: the converted network.
      calls: inputs and outputs of the Keras model.
      threshold_db: the PSNR to reach.

    Returns:
      The PSNR over all outputs of all calls, in decibels.

    Raises:
      ParityError: the PSNR is below the threshold, or an output is not finite, be it Keras' own.
    """
    wanted = [array.ravel() for _, outputs in calls for array in outputs.values()]
    found = []
    for inputs, outputs in calls:
        results = network(**inputs)
        found += [results[key].ravel() for key in outputs]
    reference, other = np.concatenate(wanted), np.concatenate(found)
    if not np.all(np.isfinite(reference)):
        raise ParityError(
            f"Keras itself returns NaN or infinity for the {name}: its weights are damaged, or its "
            "training diverged; export another checkpoint"
        )
    if not np.all(np.isfinite(other)):
        raise ParityError(f"the exported {name} returns NaN or infinity where Keras does not")
    measured = psnr_db(reference, other)
    if not measured >= threshold_db:
        raise ParityError(
            f"the exported {name} differs from Keras: PSNR {measured:.1f} dB, wanted are "
            f"{threshold_db:.1f} dB; export with another precision, or lower --min_psnr if that is "
            "good enough"
        )
    return measured
