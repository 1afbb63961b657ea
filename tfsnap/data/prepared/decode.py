"""Turns a file of any kind that Pillow reads into RGB on white, or says why it is of no use."""

import io

import numpy as np
from PIL import Image

from tfsnap.data.readers.entry import UnusableError

# Those that need no other program and whose readers are well tried. JPEG stands for MPO, too.
_FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "AVIF", "JPEG2000", "PPM", "TGA", "ICO")
_MAX_PIXELS = 2**26  # 8192 x 8192; several are decoded at a time, with 7 bytes a pixel.
_GAP = 2  # How much larger than wanted a JPEG may be decoded: less costs sharpness.
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
_SIXTEEN_BITS = ("I;16", "I;16B", "I;16L", "I;16N")
_16_TO_8 = 257  # 65535 / 255.

EMPTY = "empty file"
FOREIGN = "not a picture that can be read"
DAMAGED = "damaged or truncated"
TOO_MANY_PIXELS = "too many pixels"
TOO_SMALL = "too small"
DEPTH = "more than 16 bits a channel"


def decode(data: bytes, *, min_size: int, side: int) -> Image.Image:
    """Decodes a picture, upright, its first frame, composited on white.

    Args:
      data: the file.
      min_size: shortest side that is accepted, in pixels.
      side: the longest side that will be made of it: a large JPEG is decoded at half, a quarter or
        an eighth of its size if that leaves twice as many pixels.

    Returns:
      A picture in the mode "RGB".

    Raises:
      UnusableError: it cannot be used; the message is one of this module's constants.
    """
    if not data:
        raise UnusableError(EMPTY)
    image = _open(data)
    if min(image.size) < min_size:
        raise UnusableError(TOO_SMALL)
    try:
        image.draft(None, (_GAP * side, _GAP * side))
        if image.width * image.height > _MAX_PIXELS:
            raise UnusableError(TOO_MANY_PIXELS)
        image.load()
        turn = _turn(image)
        rgb = _rgb(image)
        return rgb if turn is None else rgb.transpose(turn)
    except UnusableError:
        raise
    except Exception as error:  # Pillow's readers raise everything at what is damaged.
        raise UnusableError(DAMAGED) from error


def _open(data: bytes) -> Image.Image:
    try:
        return Image.open(io.BytesIO(data), formats=_FORMATS)
    except Image.DecompressionBombError as error:
        raise UnusableError(TOO_MANY_PIXELS) from error
    except Image.UnidentifiedImageError as error:
        raise UnusableError(FOREIGN) from error
    except Exception as error:  # As above.
        raise UnusableError(DAMAGED) from error


def _turn(image: Image.Image) -> Image.Transpose | None:
    """How the picture is to be turned, by its EXIF; TIFFs were turned when they were loaded."""
    try:
        return _TURNS.get(image.getexif().get(_ORIENTATION))
    except Exception:  # Damaged EXIF is no reason to lose the picture.
        return None


def _rgb(image: Image.Image) -> Image.Image:
    if image.mode in _SIXTEEN_BITS or image.mode == "I":
        return _from_16_bits(image)
    if image.mode == "F":
        raise UnusableError(DEPTH)
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
        raise UnusableError(DEPTH)
    grey = (values + _16_TO_8 // 2) // _16_TO_8
    transparent = image.info.get("transparency")
    if isinstance(transparent, int):
        grey[values == transparent] = 255
    return Image.fromarray(grey.astype(np.uint8)).convert("RGB")
