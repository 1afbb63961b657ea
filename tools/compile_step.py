#!/usr/bin/env python3
"""Lowers the training step of a config to StableHLO, to train where TensorFlow does not run.

    tools/compile_step.py --config=configs/emoji/unet.py --output=step --half=frozen
    tools/run_step.py step --workdir=runs/emoji/unet

The folder gets the step, the training data and the first state, or that of the newest checkpoint in
--workdir. The second command needs only jax, numpy, safetensors and Pillow.
"""

import pathlib
import sys
import tempfile

from absl import flags
from ml_collections import config_flags

# Programs are run from anywhere: the repository's root holds `configs` and `tools`.
sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))

from tfsnap.training.checkpoint import CHECKPOINTS, CheckpointFolder
from tfsnap.training.jobs import job_from_dict
from tfsnap.training.portable import compile_step
from tools.program import run_main
from tools.unet_flag import unet_flag, with_unet

_CONFIG = config_flags.DEFINE_config_file("config", None, "What to train: a file in configs/.")
_OUTPUT = flags.DEFINE_string("output", None, "Folder to write.")
_UNET = unet_flag()
_WORKDIR = flags.DEFINE_string("workdir", None, "Run to go on from its newest checkpoint.")
_DATA = flags.DEFINE_string(
    "data", None, "Folder for the training data, for several steps to share; by default --output."
)
_HALF = flags.DEFINE_multi_enum(
    "half",
    [],
    ["frozen", "state"],
    "Store in float16, to travel light: the networks that are only read, or the weights and the "
    "optimizer's state. Repeatable.",
)


def _require_checkpoint() -> None:
    """Without one the step would be the first, as if there was no --workdir."""
    workdir = _WORKDIR.value
    if workdir and not CheckpointFolder(pathlib.Path(workdir) / CHECKPOINTS, keep=1).steps():
        raise ValueError(
            f"--workdir={workdir} has no checkpoint to go on from: give the folder of a run that "
            "has one, or leave it out to begin at step 0"
        )


def main() -> None:
    _require_checkpoint()
    values = _CONFIG.value.to_dict()
    output = pathlib.Path(_OUTPUT.value)
    job = with_unet(job_from_dict(values), _UNET.value)
    with tempfile.TemporaryDirectory() as empty:
        workdir = pathlib.Path(_WORKDIR.value or empty)
        manifest = compile_step(
            job, output=output, data=_DATA.value, workdir=workdir, half=_HALF.value
        )
    for file in sorted(output.iterdir()):
        print(f"{file.stat().st_size / 1e6:8.2f} MB  {file}")
    print(f"{len(manifest.arguments)} arguments; from step {manifest.first_step}")


if __name__ == "__main__":
    flags.mark_flags_as_required(["config", "output"])
    run_main(main)
