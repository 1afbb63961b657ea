"""How far off a mean may be."""

import numpy as np


def standard_error(values: np.ndarray) -> float:
    """Of the mean of independent values [N]; infinite for fewer than two."""
    if len(values) < 2:
        return float("inf")
    return float(np.std(values, ddof=1) / np.sqrt(len(values)))
