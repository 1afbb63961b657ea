#!/usr/bin/env python3
"""Trains one part of a text-to-image model.

    tools/train.py --config=configs/emoji/autoencoder.py --workdir=runs/autoencoder
    tools/train.py --config=configs/emoji/unet.py --workdir=runs/unet --config.training.steps=500

Run the same command again to go on where it stopped. Any field of the config can be given on the
command line; the resolved config is saved as `config.json` in the workdir.
"""

import contextlib
import os
import pathlib
import sys

from absl import flags
from ml_collections import config_flags

# Programs are run from anywhere: the repository's root holds `configs` and `tools`.
sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))
# TensorFlow reads this when it is imported, and leaves oneDNN off on processors without VNNI.
os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")

from tfsnap.heap import keep_freed_memory
from tfsnap.lock import alone_in
from tfsnap.training.jobs import job_from_dict
from tfsnap.training.jobs.read_networks import require_same_networks
from tfsnap.training.jobs.runs import save_config
from tfsnap.training.stopping import StopRequest
from tfsnap.training.strategy import STRATEGIES, make_strategy, place_of
from tfsnap.training.trainer import ON_NAN, Trainer
from tools.program import run_main
from tools.unet_flag import unet_flag, with_unet

_CONFIG = config_flags.DEFINE_config_file("config", None, "What to train: a file in configs/.")
_WORKDIR = flags.DEFINE_string("workdir", None, "Folder of the run: checkpoints, logs, weights.")
_UNET = unet_flag()
_STRATEGY = flags.DEFINE_enum(
    "strategy",
    "one",
    STRATEGIES,
    "One device, every device of this machine, those of all machines that TF_CONFIG names, or the "
    "TPU that TPU_NAME names.",
)
_ON_NAN = flags.DEFINE_enum(
    "on_nan",
    "stop",
    ON_NAN,
    "When the loss is not finite or explodes: end the run, drop such updates, or go back to the "
    "newest checkpoint and on with other data.",
)
_HANG_TIMEOUT = flags.DEFINE_float(
    "hang_timeout",
    None,
    "Seconds after which a step that does not finish ends the run; 0 for never. By default 600 for "
    "several workers, else never.",
    lower_bound=0,
)


def main() -> None:
    keep_freed_memory()
    with StopRequest() as stop:
        weights = _train(stop)
    print(f"Weights: {weights}" if weights else "The same command goes on.")


def _train(stop: StopRequest) -> pathlib.Path | None:
    workdir = pathlib.Path(_WORKDIR.value)
    strategy = make_strategy(_STRATEGY.value)
    stop.listen()
    job = with_unet(job_from_dict(_CONFIG.value.to_dict()), _UNET.value)
    place, timeout = place_of(strategy), _HANG_TIMEOUT.value
    if timeout is None:
        timeout = 600.0 if place.workers > 1 else 0.0
    with alone_in(workdir) if place.chief else contextlib.nullcontext():
        if place.chief:
            save_config(workdir, job)
            require_same_networks(workdir, job)
        trainer = Trainer(
            job, workdir=workdir, strategy=strategy, on_nan=_ON_NAN.value, hang_timeout=timeout
        )
        return trainer.fit(stop)


if __name__ == "__main__":
    flags.mark_flags_as_required(["config", "workdir"])
    run_main(main)
