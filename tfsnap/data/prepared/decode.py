"""Turns a file of any kind that Pillow reads into RGB on white, or says why it is of no use."""

import io

from PIL import Image

from tfsnap.colours import DepthError, upright_rgb
from tfsnap.data.readers.entry import UnusableError

# Those that need no other program and whose readers are well tried. JPEG stands for MPO, too.
_FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "AVIF", "JPEG2000", "PPM", "TGA", "ICO")
_MAX_PIXELS = 2**26  # 8192 x 8192; several are decoded at a time, with 7 bytes a pixel.
_GAP = 2  # How much larger than wanted a JPEG may be decoded: less costs sharpness.

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
        return upright_rgb(image)
    except UnusableError:
        raise
    except DepthError as error:
        raise UnusableError(DEPTH) from error
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
