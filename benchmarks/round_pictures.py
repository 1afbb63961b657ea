#!/usr/bin/env python3
"""Draws the same pictures before and after the edits of each round of a search.

    benchmarks/round_pictures.py --workdir=runs/search/evolved --output=rounds.png

A pair of rows for each round, of the network after its robust training and of the same weights
after the round's edits; a column for each caption, which are printed. --last adds a row of another
weight file, such as that of the last network after fine-tuning.
"""

import json
import pathlib
import sys

import numpy as np
from absl import flags
from PIL import Image

# Programs are run from anywhere: the repository's root holds `tools`.
sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))

from tfsnap.data.examples import spread
from tfsnap.evolve.config import EvolveConfig
from tfsnap.runtime.philox import normal
from tfsnap.training.pictures import mosaic
from tfsnap.training.sampling import sample_pictures
from tfsnap.weights.archive import load_trained
from tools.program import run_main

_WORKDIR = flags.DEFINE_string("workdir", None, "Folder of tools/evolve.py.")
_OUTPUT = flags.DEFINE_string("output", None, "The picture to write: a .png file.")
_LAST = flags.DEFINE_string("last", None, "Weight file of one more row.")
_COUNT = flags.DEFINE_integer("count", 12, "Number of captions, spread over the search's split.", 1)
_STEPS = flags.DEFINE_integer("steps", 25, "Steps of the sampler.", 1)
_SCALE = flags.DEFINE_integer("scale", 2, "Width of a pixel.", 1)


def files(workdir: pathlib.Path) -> list[pathlib.Path]:
    """The weight files of the rows.

    Raises:
      ValueError: no round is finished.
    """
    edited = sorted(workdir.glob("round-*/edited.safetensors"))
    if not edited:
        raise ValueError(f"{workdir} has no finished round of tools/evolve.py")
    pairs = [(path.parent / "robust/weights.safetensors", path) for path in edited]
    return [path for pair in pairs for path in pair] + list(
        map(pathlib.Path, filter(None, [_LAST.value]))
    )


def draw(workdir: pathlib.Path) -> np.ndarray:
    """The picture, uint8 [H, W, 3]."""
    config = EvolveConfig.from_dict(json.loads((workdir / "config.json").read_text()))
    rows = []
    for path in files(workdir):
        unet = load_trained(path, "unet").model
        job = config.robust.replace(model=unet.config)
        found, model = job.captioned(config.split), job.assemble(unet)
        chosen = spread(len(found.tokens), _COUNT.value)
        noise = [normal(config.seed + i, model.latent_shape) for i in range(len(chosen))]
        rows += list(
            sample_pictures(
                model,
                tokens=found.tokens[chosen, 0],
                null_tokens=found.null_tokens,
                steps=_STEPS.value,
                guidance=config.guidance,
                noise=np.stack(noise),
            )
        )
        print(path)
    print(*(found.examples.canonical[row] for row in chosen), sep=", ")
    picture = mosaic(rows, columns=len(chosen))
    return picture.repeat(_SCALE.value, axis=0).repeat(_SCALE.value, axis=1)


def main() -> None:
    Image.fromarray(draw(pathlib.Path(_WORKDIR.value))).save(_OUTPUT.value)
    print(f"Picture: {_OUTPUT.value}")


if __name__ == "__main__":
    flags.mark_flags_as_required(["workdir", "output"])
    run_main(main)
