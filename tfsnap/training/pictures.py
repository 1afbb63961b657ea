"""Pictures for TensorBoard."""

from collections.abc import Sequence

import numpy as np


def to_float(images: np.ndarray) -> np.ndarray:
    """uint8 pictures of any shape to float32 in [-1, 1]."""
    return images.astype(np.float32) / 127.5 - 1.0


def to_uint8(images: np.ndarray) -> np.ndarray:
    """Float pictures in about [-1, 1] to uint8, rounded and clipped."""
    return np.clip(np.round((images + 1.0) * 127.5), 0, 255).astype(np.uint8)


def mosaic(pictures: Sequence[np.ndarray], *, columns: int) -> np.ndarray:
    """Lays float pictures [H, W, 3] in [-1, 1] out in rows; the last row is filled with white.

    Returns:
      uint8 [rows * H, columns * W, 3].
    """
    tiles = [*pictures, *[np.ones_like(pictures[0])] * (-len(pictures) % columns)]
    rows = [np.concatenate(tiles[i : i + columns], 1) for i in range(0, len(tiles), columns)]
    return to_uint8(np.concatenate(rows, 0))
