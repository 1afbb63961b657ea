"""Pictures of any mode as a network wants them: upright, in RGB, on white."""

import numpy as np
from PIL import Image

from tfsnap.errors import TfsnapError

_ORIENTATION = 0x0112  # EXIF's tag.
_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_ON_ITS_SIDE = [_TURNS[orientation] for orientation in (5, 6, 7, 8)]
_SIXTEEN_BITS = ("I;16", "I;16B", "I;16L", "I;16N")
_16_TO_8 = 257  # 65535 / 255.


class DepthError(TfsnapError, ValueError):
    """A picture has more than 16 bits a channel."""


def upright_rgb(image: Image.Image) -> Image.Image:
    """Turns a picture by its EXIF, and converts it; what is transparent becomes white.

    Args:
      image: a picture of any mode.

    Returns:
      A picture in the mode "RGB".

    Raises:
      DepthError: it has more than 16 bits a channel.
      OSError: its file is damaged.
    """
    turn = _turn(image)
    rgb = _rgb(image)
    return rgb if turn is None else rgb.transpose(turn)


def upright_size(image: Image.Image) -> tuple[int, int]:
    """Width and height of a picture once it is turned by its EXIF.

    Raises:
      OSError: its file is damaged.
    """
    turn = _turn(image)
    width, height = image.size
    return (height, width) if turn in _ON_ITS_SIDE else (width, height)


def _turn(image: Image.Image) -> Image.Transpose | None:
    """How the picture is to be turned, by its EXIF."""
    image.load()  # Which turns TIFFs, and takes the orientation out of their EXIF.
    try:
        return _TURNS.get(image.getexif().get(_ORIENTATION))
    except Exception:  # Damaged EXIF is no reason to lose the picture.
        return None


def _rgb(image: Image.Image) -> Image.Image:
    if image.mode in _SIXTEEN_BITS or image.mode == "I":
        return _from_16_bits(image)
    if image.mode == "F":
        raise DepthError("more than 16 bits a channel")
    if image.has_transparency_data:
        white = Image.new("RGBA", image.size, "white")
        white.alpha_composite(image.convert("RGBA"))
        return white.convert("RGB")
    if image.mode == "CMYK" and image.format in ("JPEG", "MPO") and "adobe" not in image.info:
        # Pillow takes every CMYK JPEG for one of Adobe's, which are inverted.
        image = image.point(lambda value: 255 - value)
    return image.convert("RGB")


def _from_16_bits(image: Image.Image) -> Image.Image:
    """Pillow's own conversion of these modes keeps the wrong bits."""
    values = np.asarray(image).astype(np.int64)
    if values.min() < 0 or values.max() >= 2**16:
        raise DepthError("more than 16 bits a channel")
    grey = (values + _16_TO_8 // 2) // _16_TO_8
    transparent = image.info.get("transparency")
    if isinstance(transparent, int):
        grey[values == transparent] = 255
    return Image.fromarray(grey.astype(np.uint8)).convert("RGB")
