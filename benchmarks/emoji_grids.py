#!/usr/bin/env python3
"""The README's pictures of the 64 px model, each with its caption.

    benchmarks/emoji_grids.py --bundle=tfsnap/presets/emoji-64/emoji-64-int8.tfsnap \
      --output=docs/images

first.png: the captions of the demo, of which training saw the second half.
unseen.png: captions spread evenly over the splits that training did not see.
styles.png: one caption in every style and every skin tone.
"""

import argparse
import pathlib
import sys

# Programs are run from anywhere: the repository's root holds `tools`.
sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))

from tfsnap.data.examples import spread
from tfsnap.runtime import TextToImage
from tfsnap.runtime.grid import grid
from tfsnap.training.jobs.inputs import DataConfig
from tools.demo_captions import SEEN, UNSEEN
from tools.program import told

STYLES = ("noto", "twemoji", "fluent flat", "fluent 3d")
TONES = ("light", "medium-light", "medium", "medium-dark", "dark")


def unseen(count: int) -> list[str]:
    """Captions of both splits that training did not see, half from each."""
    captions = []
    for split in ("validation", "holdout"):
        examples = DataConfig(resolution=64).load(split)
        captions += [examples.canonical[row] for row in spread(len(examples), count // 2)]
    return captions


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
    with told():
        args.output.mkdir(parents=True, exist_ok=True)
        model = TextToImage(args.bundle)
        for name, captions, columns in (
            ("first", UNSEEN + SEEN, 8),
            ("unseen", unseen(args.count), 8),
            ("styles", styled, len(TONES)),
        ):
            pictures = [model(caption, seed=seed) for seed, caption in enumerate(captions)]
            path = args.output / f"{name}.png"
            grid(pictures, captions, columns=columns, scale=2).save(path, optimize=True)
            print(f"Pictures: {path}")


if __name__ == "__main__":
    main()
