"""The README's pictures of the 64 px model, each with its caption.

    benchmarks/emoji_grids.py --bundle=tfsnap/presets/emoji-64/emoji-64-int8.tfsnap \
      --output=docs/images

unseen.png: captions spread evenly over the splits that training did not see, none chosen by hand.
styles.png: one caption in every style and every skin tone.
"""

import argparse
import pathlib
import sys
import textwrap
from collections.abc import Sequence

from PIL import Image, ImageDraw, ImageFont

from tfsnap.data.examples import spread
from tfsnap.data.fetch import FetchError
from tfsnap.runtime import TextToImage
from tfsnap.runtime.errors import TfsnapError
from tfsnap.training.jobs.inputs import DataConfig

STYLES = ("noto", "twemoji", "fluent flat", "fluent 3d")
TONES = ("light", "medium-light", "medium", "medium-dark", "dark")
_SIDE = 128  # Of a shown picture, twice that of a drawn one.
_TEXT = 46  # Height below it: three lines and a gap.
_GAP = 8


def unseen(count: int) -> list[str]:
    """Captions of both splits that training did not see, half from each."""
    captions = []
    for split in ("validation", "holdout"):
        examples = DataConfig(resolution=64).load(split)
        captions += [examples.canonical[row] for row in spread(len(examples), count // 2)]
    return captions


def labelled(pictures: Sequence[Image.Image], captions: Sequence[str], columns: int) -> Image.Image:
    """Pictures in rows, with their captions below them."""
    rows = -(-len(pictures) // columns)
    width, height = _SIDE + _GAP, _SIDE + _TEXT
    whole = Image.new("RGB", (columns * width + _GAP, rows * height + _GAP), "white")
    draw, font = ImageDraw.Draw(whole), ImageFont.load_default(size=11)
    for i, (picture, caption) in enumerate(zip(pictures, captions, strict=True)):
        x, y = _GAP + i % columns * width, _GAP + i // columns * height
        whole.paste(picture.resize((_SIDE, _SIDE), Image.Resampling.NEAREST), (x, y))
        text = "\n".join(textwrap.wrap(caption, 21)[:3])
        draw.multiline_text((x, y + _SIDE + 2), text, fill="black", font=font, spacing=1)
    return whole


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--bundle", required=True, help="folder or file of a bundle")
    parser.add_argument("--output", type=pathlib.Path, required=True, help="folder to write to")
    parser.add_argument("--subject", default="woman artist", help="of styles.png")
    parser.add_argument("--count", type=int, default=16, help="pictures of unseen.png")
    args = parser.parse_args()
    styled = [f"{args.subject}, {tone} skin tone, {s} style" for s in STYLES for tone in TONES]
    try:
        model = TextToImage(args.bundle)
        for name, captions, columns in (
            ("unseen", unseen(args.count), 8),
            ("styles", styled, len(TONES)),
        ):
            pictures = [model(caption, seed=seed) for seed, caption in enumerate(captions)]
            path = args.output / f"{name}.png"
            labelled(pictures, captions, columns).save(path, optimize=True)
            print(f"Pictures: {path}")
    except (FetchError, OSError, TfsnapError) as error:
        sys.exit(f"emoji_grids: {error}")


if __name__ == "__main__":
    main()
