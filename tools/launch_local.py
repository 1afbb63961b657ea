#!/usr/bin/env python3
"""Runs a training program as several workers on this machine, and keeps them going.

    tools/launch_local.py --workers=2 -- tools/train.py --config=... --workdir=... \
      --strategy=multi_worker

Each worker gets its TF_CONFIG. When one of them dies or reports that another hangs, all are ended
and started again, and go on from the newest checkpoint. SIGTERM, SIGINT and SIGHUP are passed on,
and so end the run after a checkpoint.
"""

import argparse
import pathlib
import sys

# Programs are run from anywhere: the repository's root holds `tools`.
sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))

from tfsnap.training.launcher import Launcher


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__.splitlines()[0],
        usage="%(prog)s [--workers=N] [--restarts=N] -- PROGRAM [ARGUMENT...]",
    )
    parser.add_argument("--workers", type=int, default=2, help="how many (default 2)")
    parser.add_argument(
        "--restarts", type=int, default=3, help="times that all may be started again (default 3)"
    )
    parser.add_argument("command", nargs="+", help="a program in Python and its arguments")
    args = parser.parse_args()
    if args.workers < 1 or args.restarts < 0:
        parser.error("--workers must be at least 1 and --restarts 0 or more")
    sys.exit(Launcher([sys.executable, *args.command], args.workers, args.restarts).run())


if __name__ == "__main__":
    main()
