#!/usr/bin/env python3
"""What guidance in one call of the UNet saves: one call of two contexts beside a call of one.

    benchmarks/guidance_batch.py --channels=64 --channels=128 --channels=192 --latent=16

The weights are random. Two calls take twice the time of the first row: below a ratio of 2, one call
of both is faster.
"""

import pathlib
import sys

from absl import flags

# Programs are run from anywhere: the repository's root holds `tools`.
sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))

from tfsnap.bench.turns import time_in_turn
from tfsnap.config import StageConfig, UNetConfig
from tfsnap.export.converter import PRECISIONS, convert
from tfsnap.export.graphs import unet_graph
from tfsnap.models.unet import build_unet
from tools.program import run_main

_CHANNELS = flags.DEFINE_multi_integer("channels", [64, 128, 192], "Of the stages. Repeatable.", 8)
_LATENT = flags.DEFINE_integer("latent", 16, "Height and width of the latent.", 1)
_TOKENS = flags.DEFINE_integer("tokens", 77, "Length of a context.", 1)
_PRECISION = flags.DEFINE_enum("precision", "fp16", PRECISIONS, "How weights are stored.")
_THREADS = flags.DEFINE_integer("threads", 2, "Threads of the interpreter.", 1)
_RUNS = flags.DEFINE_integer("runs", 20, "Measured runs in a round.", 1)
_ROUNDS = flags.DEFINE_integer("rounds", 7, "How often each network is timed, in turn.", 1)


def config() -> UNetConfig:
    """A UNet with attention in all stages but the first."""
    shapes = [StageConfig(width, 1, int(i > 0)) for i, width in enumerate(_CHANNELS.value)]
    up = [StageConfig(s.channels, 2, (int(i > 0),) * 2) for i, s in enumerate(shapes)]
    return UNetConfig(
        down=tuple(shapes),
        mid=StageConfig(shapes[-1].channels, 1, 1),
        up=tuple(reversed(up)),
        context_width=256,
        heads=4,
        groups=8,
    )


def main() -> None:
    unet, latent = build_unet(config()), (_LATENT.value, _LATENT.value)
    graphs = {
        f"{contexts} context{'s' * (contexts - 1)}": unet_graph(
            unet, latent=latent, tokens=_TOKENS.value, contexts=contexts
        )
        for contexts in (1, 2)
    }
    report = time_in_turn(
        {name: convert(graph, _PRECISION.value).to_bytes() for name, graph in graphs.items()},
        threads=_THREADS.value,
        runs=_RUNS.value,
        rounds=_ROUNDS.value,
    )
    print(
        f"{unet.count_params():,} parameters, {_PRECISION.value}; {report.device}; "
        f"{report.interpreter}, {report.delegate}, {report.threads} threads; "
        f"{report.rounds} rounds of {report.warmup} + {report.runs} runs"
    )
    for name, turns in report.networks.items():
        print(
            f"{name:10}  {turns.ms:8.2f} ms  ratio {turns.ratio:.2f} "
            f"({turns.lowest:.2f} to {turns.highest:.2f})"
        )


if __name__ == "__main__":
    run_main(main)
