"""Pictures as the networks of the metrics see them."""

import numpy as np
from PIL import Image


def to_square(image: Image.Image, side: int) -> np.ndarray:
    """Resizes the shorter side, bicubic with antialiasing, and crops the middle.

    It is what CLIP's preprocessing does at 224 pixels and the COCO-30K protocol at 256. As in
    transformers the longer side is rounded down, and of an odd rest the left and the top lose less.

    Args:
      image: of the mode "RGB".
      side: of the square, in pixels.

    Returns:
      uint8 [side, side, 3].
    """
    short, long = sorted(image.size)
    scaled = int(side * long / short)
    size = (side, scaled) if image.width <= image.height else (scaled, side)
    resized = image if size == image.size else image.resize(size, Image.Resampling.BICUBIC)
    left, top = ((length - side) // 2 for length in size)
    return np.asarray(resized.crop((left, top, left + side, top + side)))


def squares(images: np.ndarray, side: int) -> np.ndarray:
    """`to_square` of uint8 pictures [N, H, W, 3]; those that are of this size stay as they are."""
    if images.shape[1:3] == (side, side):
        return images
    return np.stack([to_square(Image.fromarray(image), side) for image in images])
