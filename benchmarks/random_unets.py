#!/usr/bin/env python3
"""Writes random UNets, for comparing what a latency table predicts with what is measured.

    benchmarks/random_unets.py --output=runs/random_unets
    tools/latency_table.py $(printf -- '--unet=%s ' runs/random_unets/*.json) \
      --latent=16x16 --tokens=32 --threads=2 --output=runs/latency.json --check

The same seed writes the same networks, on every machine. docs/architecture.md has the result.
"""

import json
import pathlib
import random
import sys

from absl import flags

# Programs are run from anywhere: the repository's root holds `tools`.
sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))

from tfsnap.config import StageConfig, UNetConfig
from tools.program import run_main

_OUTPUT = flags.DEFINE_string("output", None, "Folder for the JSON files; made if there is none.")
_COUNT = flags.DEFINE_integer("count", 10, "Number of networks.", 1)
_SEED = flags.DEFINE_integer("seed", 0, "Seed of the draws.")

_STAGES = (2, 3)
_WIDTHS = (32, 64, 96, 128, 192, 256)
_NARROW = 32  # Stages of the way up that are no wider have no attention.


def random_unet(draws: random.Random) -> UNetConfig:
    """Draws a small UNet: two or three stages, ever wider, with attentions here and there.

    The highest resolution has none on the way down, where scores between all places are dear.
    """
    widths = sorted(draws.choices(_WIDTHS, k=draws.choice(_STAGES)))
    resnets = [draws.choice((1, 2)) for _ in widths]
    stages = list(zip(widths, resnets, strict=True))
    down = [
        _stage(draws, width, count, (0, 1) if n else ()) for n, (width, count) in enumerate(stages)
    ]
    mid = _stage(draws, widths[-1], draws.choice((1, 2)), (0, 1))
    up = [
        _stage(draws, width, count + 1, (0, 1, 2) if width > _NARROW else ())
        for width, count in reversed(stages)
    ]
    return UNetConfig(
        down=tuple(down), mid=mid, up=tuple(up), context_width=128, heads=4, groups=16
    )


def _stage(
    draws: random.Random, channels: int, resnets: int, attentions: tuple[int, ...]
) -> StageConfig:
    """A stage; every ResNet draws its number of attentions, where there is a choice."""
    chosen = tuple(draws.choice(attentions) if attentions else 0 for _ in range(resnets))
    return StageConfig(channels, resnets, chosen)


def main() -> None:
    folder, draws = pathlib.Path(_OUTPUT.value), random.Random(_SEED.value)
    folder.mkdir(parents=True, exist_ok=True)
    for number in range(_COUNT.value):
        path = folder / f"random{number}.json"
        path.write_text(json.dumps(random_unet(draws).to_dict(), indent=2) + "\n")
        print(path)


if __name__ == "__main__":
    flags.mark_flags_as_required(["output"])
    run_main(main)
