"""The programs as a user types them, on a few real pictures of 16 px and for a few steps."""

import os
import pathlib
import subprocess
import sys

ROOT = pathlib.Path(__file__).parents[2]
SMALL = (
    "--config.data.resolution=16",
    "--config.training.steps=3",
    "--config.training.batch_size=4",
    "--config.training.checkpoint_every=2",
    "--config.training.log_every=1",
    "--config.training.jit_compile=False",  # Its three steps cannot earn the compilation back.
)


def run(program, *arguments):
    command = [sys.executable, str(ROOT / f"tools/{program}.py"), *arguments]
    # On the CPU alone, so that a machine with a GPU runs the same test.
    environment = {**os.environ, "CUDA_VISIBLE_DEVICES": ""}
    return subprocess.run(command, capture_output=True, text=True, env=environment)


def succeed(program, *arguments):
    result = run(program, *arguments)
    assert result.returncode == 0, result.stderr[-3000:]
    return result.stdout


def training(part, workdir):
    """What tools/train.py is told."""
    return f"--config={ROOT}/configs/emoji/{part}.py:demo", f"--workdir={workdir}", *SMALL


def train(part, workdir, *more):
    return run("train", *training(part, workdir), *more)
