#!/usr/bin/env python3
"""Pictures of several networks from the same noise, a row for each.

    benchmarks/network_grid.py --output=docs/images/students.png \
      --networks='teacher=tfsnap/presets/emoji-64/teacher?steps=50&guidance=2,student=runs/emoji/distill/baked8'

The captions, spread evenly over the splits that training did not see, are below the last row.
"""

import itertools
import pathlib
import sys

from absl import flags
from PIL import Image

# Programs are run from anywhere: the repository's root holds `tools`.
sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))

from benchmarks.emoji_grids import unseen
from tfsnap.runtime.grid import grid
from tools.flag_lists import NetworkFlag, networks
from tools.generators import finite_uint8, open_generator
from tools.program import run_main

_NETWORKS = flags.DEFINE_list(
    "networks", None, "NAME=PATH?steps=8&guidance=3&sampler=ddim of runs and bundles, in order."
)
_OUTPUT = flags.DEFINE_string("output", None, "PNG file to write.")
_COUNT = flags.DEFINE_integer("count", 8, "Pictures in a row.", 2)
_SCALE = flags.DEFINE_integer("scale", 2, "By how much pictures are enlarged.", 1)


def pictures(network: NetworkFlag, captions: list[str]) -> list[Image.Image]:
    """What a network draws for captions; the noise of each is that of its place."""
    generator = open_generator(network.path, threads=2)
    steps, guidance = network.steps or generator.steps, generator.scale(network.guidance)
    scale = 1.0 if guidance is None else guidance
    draw = generator.make(steps=steps, guidance=scale, sampler=network.sampler)
    return [Image.fromarray(p) for p in finite_uint8(draw(captions, range(len(captions))))]


def main() -> None:
    captions = unseen(_COUNT.value)
    rows = {n: pictures(found, captions) for n, found in networks(_NETWORKS).items()}
    images = list(itertools.chain.from_iterable(rows.values()))
    texts = [f"[{name}]" if not i else "" for name in rows for i in range(len(captions))]
    for i, caption in enumerate(captions, start=len(texts) - len(captions)):
        texts[i] = f"{texts[i]} {caption}".strip()
    sheet = grid(images, texts, columns=len(captions), scale=_SCALE.value)
    sheet.save(_OUTPUT.value, optimize=True)
    print(f"Pictures: {_OUTPUT.value}")


if __name__ == "__main__":
    flags.mark_flags_as_required(["networks", "output"])
    run_main(main)
