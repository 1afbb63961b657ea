#!/usr/bin/env python3
"""Trains with a step made by tools/compile_step.py, through JAX and without TensorFlow.

    tools/run_step.py step --workdir=runs/emoji/unet
    tools/run_step.py step --workdir=runs/emoji/unet --seconds=600 --export_dtype=float16

Run it again to go on where it stopped. When all steps are done, `tools/train.py` with the same
workdir adds the previews, and the weights where they were not written here. Needs jax, numpy,
safetensors and Pillow.
"""

import argparse
import math
import pathlib
import sys
from collections.abc import Callable

# Programs are run from anywhere: the repository's root holds `tfsnap`.
sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))

from tfsnap.lock import alone_in
from tfsnap.training.portable_runner import PortableRun, adopt_averages
from tfsnap.training.stopping import StopRequest
from tools.program import told
from tools.unused_flags import refuse

# Flags that say how to train.
_TRAINS = (
    *("data", "init", "frozen", "steps", "seconds"),
    *("steps_per_call", "checkpoint_every", "export_dtype"),
)


def _at_least(least: float, kind: type) -> Callable[[str], float]:
    """A type of arguments: numbers from `least` on."""

    def number(text: str) -> float:
        value = kind(text)
        if not value >= least:
            raise argparse.ArgumentTypeError(f"it is {text}; it must be at least {least}")
        return value

    number.__name__ = kind.__name__  # For what argparse says of a text that is no number.
    return number


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    path = pathlib.Path
    parser.add_argument("step", type=path, help="folder that tools/compile_step.py wrote")
    parser.add_argument("--workdir", type=path, required=True, help="folder of the run")
    parser.add_argument(
        "--data", type=path, help="folder of the training data; default: the step's folder"
    )
    parser.add_argument(
        "--init", type=path, metavar="FILE", help="start from these weights, not from the step's"
    )
    parser.add_argument(
        "--frozen",
        type=path,
        metavar="FILE",
        action="append",
        default=[],
        help="weights of a network that is only read, newer than the step's; may be repeated",
    )
    parser.add_argument(
        "--steps", type=_at_least(0, int), help="stop after this many; default: at the end"
    )
    parser.add_argument(
        "--seconds", type=_at_least(0, float), default=math.inf, help="stop after this time"
    )
    parser.add_argument(
        "--steps_per_call",
        type=_at_least(1, int),
        help="steps between two log lines; default: the config's",
    )
    parser.add_argument(
        "--checkpoint_every",
        type=_at_least(0, int),
        help="0: only at the end; default: the config's",
    )
    parser.add_argument(
        "--export_dtype",
        choices=["float32", "float16"],
        help="also write the averaged weights, ema.safetensors, in this type",
    )
    parser.add_argument(
        "--adopt",
        type=path,
        metavar="FILE",
        help="do not train: make a checkpoint from another machine's ema.safetensors",
    )
    args = parser.parse_args()
    args.only_trains = [name for name in _TRAINS if getattr(args, name) != parser.get_default(name)]
    return args


def _train(args: argparse.Namespace) -> None:
    run = PortableRun(
        args.step,
        workdir=args.workdir,
        data=args.data,
        steps_per_call=args.steps_per_call,
        checkpoint_every=args.checkpoint_every,
        init=args.init,
        frozen=args.frozen,
    )
    with StopRequest() as stop, stop.deferred():
        run.train(steps=args.steps, seconds=args.seconds, stopped=lambda: stop.signal is not None)
    if args.export_dtype:
        path = args.workdir / "ema.safetensors"
        run.save_averages(path, dtype=args.export_dtype, step=run.done)
        print(f"Averaged weights: {path}")
    if run.complete and run.manifest.description:
        path = args.workdir / "weights.safetensors"
        run.save_averages(path)
        print(f"Weights: {path}")
    elif run.complete:
        print("All steps are done; tools/train.py measures the network and writes its weights.")
    else:
        print(f"Stopped at step {run.done} of {run.manifest.steps}; run this again to go on.")


def main() -> None:
    args = _arguments()
    with told(), alone_in(args.workdir):
        if args.adopt:
            refuse(args.only_trains, "--adopt, which does not train")
            step = adopt_averages(args.step, args.adopt, workdir=args.workdir)
            print(f"Checkpoint of step {step} in {args.workdir}")
        else:
            _train(args)


if __name__ == "__main__":
    main()
