"""Draws a picture as RGB pixels on white."""

import io

import numpy as np
import resvg_py
from PIL import Image

from tfsnap.data.catalogue import Drawing

_XML = 'xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink"'


def render(drawing: Drawing, *, resolution: int) -> np.ndarray:
    """Renders a drawing, centred and with its proportions kept, on a white square.

    Args:
      drawing: scalable or bitmap.
      resolution: side length in pixels.

    Returns:
      uint8 [resolution, resolution, 3].
    """
    if drawing.bitmap is not None:
        return _resample(drawing.bitmap, resolution)
    return _rasterize(drawing, resolution)


def _rasterize(drawing: Drawing, resolution: int) -> np.ndarray:
    # The size goes into the markup: as an argument it would stretch a drawing that is not square.
    svg = (
        f'<svg {_XML} width="{resolution}" height="{resolution}" '
        f'viewBox="0 0 {drawing.width} {drawing.height}">{drawing.svg}</svg>'
    )
    # No picture has text; without the machine's fonts they all look the same everywhere.
    png = resvg_py.svg_to_bytes(svg_string=svg, background="#ffffff", skip_system_fonts=True)
    return np.asarray(Image.open(io.BytesIO(png)).convert("RGB"))


def _resample(bitmap: bytes, resolution: int) -> np.ndarray:
    image = Image.open(io.BytesIO(bitmap)).convert("RGBA")
    # Composited first: resampling bare RGBA would mix in the colours of transparent pixels.
    white = Image.new("RGBA", image.size, "white")
    white.alpha_composite(image)
    size = max(image.size)
    square = Image.new("RGB", (size, size), "white")
    square.paste(white.convert("RGB"), ((size - image.width) // 2, (size - image.height) // 2))
    return np.asarray(square.resize((resolution, resolution), Image.Resampling.LANCZOS))
