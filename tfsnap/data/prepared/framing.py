"""The shapes that pictures are made to: one square, or buckets of about its area."""

import math
from collections.abc import Sequence

import numpy as np
from PIL import Image

Shape = tuple[int, int]  # Height, width.

_UNIT = 8  # Sides are multiples of it: an autoencoder halves them several times.
_STEPS = 8  # Default: sides differ by an eighth of the resolution.
_MAX_RATIO = 2.0  # Of the longer side to the shorter; what is longer is cropped.


def bucket_shapes(resolution: int, step: int | None = None) -> tuple[Shape, ...]:
    """Shapes whose sides are multiples of `step` and whose area is at most `resolution`^2.

    Every width from half to twice the height has the largest height that fits.

    Args:
      resolution: side of the square among them, in pixels, a multiple of `step`.
      step: a multiple of 8, in pixels; by default an eighth of the resolution, rounded so.

    Returns:
      (height, width) from the tallest to the widest.

    Raises:
      ValueError: `step` or `resolution` is no such multiple.

    Example:
      >>> bucket_shapes(64)
      ((80, 48), (72, 56), (64, 64), (56, 72), (48, 80))

    Reference: Podell et al. 2023, "SDXL", section 2.3 and appendix I.
    """
    step = step or max(_UNIT, resolution // _STEPS // _UNIT * _UNIT)
    if step % _UNIT:
        raise ValueError(f"bucket_step is {step}; it must be a multiple of {_UNIT}")
    if resolution % step:
        below = max(1, resolution // step) * step
        raise ValueError(
            f"resolution is {resolution}; with buckets it must be a multiple of bucket_step, "
            f"{step}, such as {below} or {below + step}"
        )
    shapes = set()
    for short in range(step, resolution + 1, step):
        long = resolution**2 // short // step * step
        if long <= _MAX_RATIO * short:
            shapes |= {(long, short), (short, long)}
    return tuple(sorted(shapes, key=lambda shape: shape[1] / shape[0]))


def nearest_shape(size: tuple[int, int], shapes: Sequence[Shape]) -> Shape:
    """The shape of which a picture loses least.

    Args:
      size: the picture's width and height.
      shapes: (height, width) of each.
    """
    ratio = math.log(size[0] / size[1])
    return min(shapes, key=lambda shape: (abs(math.log(shape[1] / shape[0]) - ratio), shape))


def frame(image: Image.Image, shape: Shape) -> np.ndarray:
    """Crops the middle of a picture and resizes it, antialiased.

    Args:
      image: of the mode "RGB".
      shape: height and width.

    Returns:
      uint8 [height, width, 3].
    """
    height, width = shape
    scale = min(image.width / width, image.height / height)
    left = (image.width - scale * width) / 2
    top = (image.height - scale * height) / 2
    box = (left, top, left + scale * width, top + scale * height)
    # Rounding must not push the box over the edge.
    box = (box[0], box[1], min(box[2], image.width), min(box[3], image.height))
    return np.asarray(image.resize((width, height), Image.Resampling.LANCZOS, box=box))
