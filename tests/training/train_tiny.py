"""Trains a tiny network as tools/train.py trains real ones; a process for tests to disturb.

train_tiny.py WORKDIR [--strategy=...] [--steps=N] [--hang=STEP] ...
"""

import argparse
import os
import pathlib
import signal
import sys
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[2]))

from tests.training.tiny_job import TRAINING, DenseJob
from tfsnap.training.stopping import Stopped, StopRequest
from tfsnap.training.strategy import StrategyError, make_strategy
from tfsnap.training.trainer import Trainer, TrainingError


class Disturbed(Trainer):
    """Tells each step, and may kill or hang its own process once, after a step."""

    kill_after: int | None = None
    hang_after: int | None = None

    def _advance(self, data, done):
        marker = self.workdir / "disturbed"
        if done in (self.kill_after, self.hang_after) and not marker.exists():
            marker.touch()
            if done == self.kill_after:
                os.kill(os.getpid(), signal.SIGKILL)
            time.sleep(3600)  # Alive for TensorFlow, whose heartbeats find a stopped process.
        figures = super()._advance(data, done)
        if self.place.chief:
            with open(self.workdir / "losses.txt", "a") as file:
                file.write(f"{done} {float(figures['loss']):.9g}\n")
        return figures


def run(argv):
    parser = argparse.ArgumentParser()
    parser.add_argument("workdir", type=pathlib.Path)
    parser.add_argument("--strategy", default="one")
    parser.add_argument("--steps", type=int, default=6)
    parser.add_argument("--checkpoint_every", type=int, default=3)
    parser.add_argument("--slow", type=float, default=0.0, help="seconds to wait in each step")
    parser.add_argument("--kill_after", type=int, help="step of the last worker's death")
    parser.add_argument("--hang_after", type=int)
    parser.add_argument("--hang_timeout", type=float, default=0.0)
    parser.add_argument("--asynchronous", action="store_true")
    args = parser.parse_args(argv)
    training = TRAINING.replace(
        steps=args.steps,
        checkpoint_every=args.checkpoint_every,
        asynchronous_checkpoints=args.asynchronous,
    )
    try:
        with StopRequest() as stop:
            strategy = make_strategy(args.strategy)
            trainer = Disturbed(
                DenseJob(training=training),
                workdir=args.workdir,
                strategy=strategy,
                hang_timeout=args.hang_timeout,
            )
            if trainer.place.worker == trainer.place.workers - 1:
                trainer.kill_after, trainer.hang_after = args.kill_after, args.hang_after
            if args.slow:
                step = trainer._step
                trainer._step = lambda *a: (time.sleep(args.slow), step(*a))[1]
            trainer.fit(stop)
    except Stopped as stopped:
        print(f"stopped by {stopped}")
    except (StrategyError, TrainingError) as error:
        sys.exit(f"train: {error}")


if __name__ == "__main__":
    run(sys.argv[1:])
