"""Networks on more rows than fit at once."""

from collections.abc import Callable
from typing import Any

import numpy as np


def in_batches(function: Callable[..., Any], *arrays: np.ndarray, size: int) -> np.ndarray:
    """Applies a function of rows to parts of them.

    Args:
      function: of parts of the arrays; returns a tensor or an array, a row for each row.
      *arrays: [N, ...] each.
      size: rows of a part, at most.

    Returns:
      What it returned, one after the other.
    """
    starts = range(0, len(arrays[0]), size)
    parts = [function(*(rows[i : i + size] for rows in arrays)) for i in starts]
    return np.concatenate([np.asarray(part) for part in parts])
