"""Between Pillow's pictures and the arrays that networks read and write."""

import itertools
import math
from fractions import Fraction

import numpy as np
from PIL import Image, ImageOps

from tfsnap.colours import DepthError, upright_rgb
from tfsnap.runtime.errors import RequestError


def to_picture(image: np.ndarray) -> Image.Image:
    """Converts a decoder's output to an RGB picture.

    Args:
      image: float [1, H, W, 3] or [H, W, 3]; -1 is black, 1 is white, values beyond are cut off.
    """
    levels = (np.clip(image, -1.0, 1.0) + 1.0) * 127.5 + 0.5  # Then rounded down.
    return Image.fromarray(levels.astype(np.uint8).reshape(image.shape[-3:]))


def from_picture(picture: Image.Image, *, height: int, width: int) -> np.ndarray:
    """Cuts a picture to a shape, from its centre, and resizes it for an encoder.

    Args:
      picture: of any size and mode; what is transparent becomes white.
      height: of the result, in pixels.
      width: of the result, in pixels.

    Returns:
      float32 [1, height, width, 3] in [-1, 1].

    Raises:
      RequestError: the picture has more than 16 bits a channel, or a mode of no use.
    """
    picture = _upright_rgb(picture, "image")
    picture = ImageOps.fit(picture, (width, height), Image.Resampling.LANCZOS)
    return np.asarray(picture, np.float32)[None] / np.float32(127.5) - np.float32(1.0)


def from_mask(mask: Image.Image, *, height: int, width: int, latent: tuple[int, int]) -> np.ndarray:
    """Cuts a mask as `from_picture` does, and brings it to the latent's resolution.

    Args:
      mask: of any size; white (128 and more, as a grey level) where to repaint.
      height: of the picture that is generated, in pixels.
      width: of that picture.
      latent: height h and width w of the latent.

    Returns:
      float32 [1, h, w, 1]: 1 in every cell that a pixel to be repainted reaches into, else 0.

    Raises:
      RequestError: nothing is to be repainted, or the mask has more than 16 bits a channel, or a
        mode of no use.
    """
    # More than 8 bits, of which Pillow's own conversion takes the wrong; it has none from LAB to L.
    if mask.mode[0] in "IF" or mask.mode == "LAB":
        mask = _upright_rgb(mask, "mask").convert("L")
    else:
        mask = ImageOps.exif_transpose(mask).convert("L")
    white = np.asarray(mask) >= 128  # Not resized, which loses thin strokes.
    rows, columns = white.shape
    # Of a shape with more width or height to it than the picture's, as much is cut from either end.
    kept = min(Fraction(rows), Fraction(columns * height, width))
    white = _reached(white, kept, latent[0])
    white = _reached(white.T, min(Fraction(columns), Fraction(rows * width, height)), latent[1]).T
    if not white.any():
        raise RequestError(
            "The mask repaints nothing: make it white (at least 128 of 255) somewhere in the part "
            "of the picture that is kept when it is cut"
        )
    return white.astype(np.float32)[None, :, :, None]


def _reached(white: np.ndarray, kept: Fraction, cells: int) -> np.ndarray:
    """Which of the equal cells of the middle of an array's rows hold part of one that is true.

    Args:
      white: bool [H, W].
      kept: how many rows the cells cover together.
      cells: how many there are, h.

    Returns:
      bool [h, W].
    """
    start = (len(white) - kept) / 2
    edges = [start + kept * i / cells for i in range(cells + 1)]
    spans = [(math.floor(a), math.ceil(b)) for a, b in itertools.pairwise(edges)]
    return np.stack([white[a:b].any(axis=0) for a, b in spans])


def _upright_rgb(picture: Image.Image, name: str) -> Image.Image:
    try:
        return upright_rgb(picture)
    except DepthError as error:
        raise RequestError(f"The {name} has {error}: save it with 8 or 16") from error
    except ValueError as error:
        raise RequestError(f"The {name} cannot be used: {error}: save it in RGB") from error
