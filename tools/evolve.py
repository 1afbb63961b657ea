#!/usr/bin/env python3
"""Searches for an efficient UNet: SnapFusion's Algorithm 1.

    tools/latency_table.py --unet=runs/search/teacher/config.json --latent=8x8 --tokens=24 \
      --output=runs/search/table.json
    tools/evolve.py --config=configs/emoji/evolve.py --workdir=runs/search/evolved

Loops robust training, scoring of every edit by dCLIP / dLatency, and editing, until the network
takes the wanted share of its latency. Run the same command again to go on where it stopped. The
workdir gets `unet.json`, the shape of the newest network, which every tool takes, its weights in
the last round's folder, `rounds.md` and `rounds.png`, all of them after every round.

Where TensorFlow does not run, the robust training of a round runs as a portable step: with
`--compile=step` the program compiles the next round's and says how to train with it.
"""

import json
import os
import pathlib
import sys

from absl import flags
from ml_collections import config_flags

# Programs are run from anywhere: the repository's root holds `configs` and `tools`.
sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))
os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")  # As tools/train.py does.

from tfsnap.evolve.config import MAY_CHANGE, EvolveConfig
from tfsnap.evolve.evolver import Evolver
from tfsnap.heap import keep_freed_memory
from tfsnap.lock import alone_in
from tfsnap.training.jobs.read_networks import require_same_networks
from tfsnap.training.jobs.runs import require_same_config
from tfsnap.training.portable import compile_step
from tfsnap.training.stopping import StopRequest
from tfsnap.training.strategy import STRATEGIES, make_strategy
from tools.program import run_main

_CONFIG = config_flags.DEFINE_config_file("config", None, "The search: a file in configs/.")
_WORKDIR = flags.DEFINE_string("workdir", None, "Folder of the search.")
_STRATEGY = flags.DEFINE_enum("strategy", "one", STRATEGIES[:2], "Where robust training runs.")

_COMPILE = flags.DEFINE_string(
    "compile", None, "Only compile the step of the next round's robust training into this folder."
)


def main() -> None:
    keep_freed_memory()
    with StopRequest() as stop, alone_in(_WORKDIR.value):
        _evolve(stop)


def _evolve(stop: StopRequest) -> None:
    workdir = pathlib.Path(_WORKDIR.value)
    config = EvolveConfig.from_dict(_CONFIG.value.to_dict())
    evolver = Evolver(
        config,
        workdir=workdir,
        strategy=make_strategy(_STRATEGY.value),
        tell=lambda line: print(line, flush=True),
    )
    # Only now: what the evolver refuses leaves no trace.
    require_same_config(workdir, config, may_change=MAY_CHANGE)
    require_same_networks(workdir, config, config.robust, also={config.table: evolver.yardstick})
    if _COMPILE.value:
        _compile(evolver)
        return
    found = evolver.run(stop)
    if found is None:
        print("The same command goes on.")
    else:
        print(f"{json.dumps(found.to_dict())}\nNetwork: {workdir / 'unet.json'}")
        print(f"Its weights: {evolver.weights}; {workdir / 'rounds.md'}, {workdir / 'rounds.png'}")


def _compile(evolver: Evolver) -> None:
    if evolver.over:
        raise ValueError("the search is over: no training is left to compile")
    if evolver.trained:
        number = len(evolver.rounds)
        raise ValueError(f"round {number} is trained: the command without --compile scores it")
    job, folder = evolver.training()
    compile_step(job, output=_COMPILE.value, workdir=folder)
    print(f"Train with it: tools/run_step.py {_COMPILE.value} --workdir={folder}")
    print("Then the command without --compile goes on.")


if __name__ == "__main__":
    flags.mark_flags_as_required(["config", "workdir"])
    run_main(main)
