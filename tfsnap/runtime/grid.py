"""Pictures side by side, with captions."""

import math
from collections.abc import Sequence

from PIL import Image, ImageDraw, ImageFont

_FONT_SIZE = 13
_LINE = 16  # Pixels from one line of a caption to the next.
_GAP = 8  # Pixels around and between cells.


def grid(
    images: Sequence[Image.Image],
    captions: Sequence[str] | None = None,
    *,
    columns: int | None = None,
    scale: int = 1,
) -> Image.Image:
    """Draws pictures of one size row by row on white, a caption under each.

    Args:
      images: the pictures.
      captions: one for each picture, wrapped to its width; None draws none.
      columns: pictures in a row; by default as many as make the grid about square.
      scale: by how much pictures are enlarged, every pixel to a square; captions are not.

    Returns:
      An RGB picture.

    Raises:
      ValueError: there are no pictures, they differ in size, or captions are not as many.

    Example:
      >>> grid(pictures, ["a red heart", "a blue heart"], scale=4).save("hearts.png")
    """
    if not images or len({image.size for image in images}) > 1:
        sizes = sorted({image.size for image in images})
        raise ValueError(f"A grid needs pictures of one size; the sizes are {sizes}")
    if captions is not None and len(captions) != len(images):
        raise ValueError(f"There are {len(captions)} captions for {len(images)} pictures")
    width, height = (side * scale for side in images[0].size)
    columns = columns or math.ceil(math.sqrt(len(images)))
    columns = min(columns, len(images))
    font = ImageFont.load_default(_FONT_SIZE)
    texts = [_wrap(caption, width, font) for caption in captions or [""] * len(images)]
    rows = [range(i, min(i + columns, len(images))) for i in range(0, len(images), columns)]
    heights = [height + _LINE * max(len(texts[i]) for i in row) for row in rows]
    sheet = Image.new(
        "RGB",
        (columns * (width + _GAP) + _GAP, sum(heights) + _GAP * (len(rows) + 1)),
        "white",
    )
    draw = ImageDraw.Draw(sheet)
    y = _GAP
    for row, row_height in zip(rows, heights, strict=True):
        for column, i in enumerate(row):
            x = _GAP + column * (width + _GAP)
            large = images[i].convert("RGB").resize((width, height), Image.Resampling.NEAREST)
            sheet.paste(large, (x, y))
            for line, text in enumerate(texts[i]):
                draw.text((x, y + height + line * _LINE), text, fill="black", font=font)
        y += row_height + _GAP
    return sheet


def _wrap(caption: str, width: int, font: ImageFont.FreeTypeFont) -> list[str]:
    """Splits a caption into lines of at most `width` pixels; a longer word is broken."""
    lines: list[str] = []
    for word in caption.split():
        joined = f"{lines[-1]} {word}" if lines else word
        if lines and font.getlength(joined) <= width:
            lines[-1] = joined
            continue
        lines.append("")
        for character in word:
            if lines[-1] and font.getlength(lines[-1] + character) > width:
                lines.append("")
            lines[-1] += character
    return lines
