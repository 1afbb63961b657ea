#!/usr/bin/env python3
"""How fast the portable step trains, by batch size and precision.

    benchmarks/portable_step.py compile --config=configs/emoji/unet.py --output=steps \
      --batch=64 --batch=256 --precision=float32 --precision=bfloat16
    benchmarks/portable_step.py run steps --seconds=30

The first command, where TensorFlow is, lowers a step for every combination; arguments that it does
not know are given to tools/compile_step.py. The second trains each for some seconds in a process of
its own, without TensorFlow, and prints a table. The first line that a process logs, with what is
compiled before it, does not count. What is in the table stays in steps/results.json, and is not
measured again by the same command.
"""

import argparse
import json
import pathlib
import statistics
import subprocess
import sys
import tempfile

# Programs are run from anywhere: the repository's root holds `tools`.
sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))

from tools.program import call, told

_RESULTS = "results.json"
_DATA = "data"  # Of all steps: their tables are the same.


def compile_all(args: argparse.Namespace) -> None:
    """Lowers a step for every combination."""
    for batch in args.batch:
        for precision in args.precision:
            training = {"batch_size": batch, "precision": precision, "log_every": args.log_every}
            fields = [f"--config.training.{name}={value}" for name, value in training.items()]
            folder = args.output / f"{batch}-{precision}"
            call(
                "tools/compile_step.py",
                f"--config={args.config}",
                f"--output={folder}",
                f"--data={args.output / _DATA}",
                *fields,
                *args.more,
            )


def measure(folder: pathlib.Path, data: pathlib.Path, seconds: float) -> dict[str, float]:
    """Trains with one step; returns its rate.

    Raises:
      ValueError: it logged too little to tell.
    """
    with tempfile.TemporaryDirectory() as workdir:
        call(
            "tools/run_step.py",
            folder,
            f"--data={data}",
            f"--workdir={workdir}",
            f"--seconds={seconds}",
            "--checkpoint_every=0",
        )
        lines = (pathlib.Path(workdir) / "figures.jsonl").read_text().splitlines()
    rates = [json.loads(line)["steps_per_second"] for line in lines[1:]]
    if not rates:
        raise ValueError(f"{folder} logged one line in {seconds:g} s: give it more --seconds")
    return {"steps_per_second": statistics.median(rates), "lines": len(rates)}


def device() -> str:
    """What JAX trains on, asked in another process, which gives its memory back."""
    code = "import jax; print(jax.devices()[0].device_kind)"
    asked = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    return asked.stdout.strip()


def run_all(args: argparse.Namespace) -> None:
    """Measures every step of a folder that has no result yet, and prints all."""
    path = args.steps / _RESULTS
    results = json.loads(path.read_text()) if path.is_file() else {}
    kind = device()
    folders = [f.parent for f in sorted(args.steps.glob("*/manifest.json"))]
    for folder in sorted(folders, key=lambda f: int(f.name.partition("-")[0])):
        key = f"{folder.name} on {kind}"
        if key not in results:
            batch, _, precision = folder.name.partition("-")
            found = measure(folder, args.steps / _DATA, args.seconds)
            results[key] = {"batch": int(batch), "precision": precision, "device": kind, **found}
            path.write_text(json.dumps(results, indent=2) + "\n")
    print("| device | batch | precision | steps/s | examples/s |\n|---|---|---|---|---|")
    for row in results.values():
        rate = row["steps_per_second"]
        print(
            f"| {row['device']} | {row['batch']} | {row['precision']} | {rate:.3g} | "
            f"{rate * row['batch']:,.0f} |"
        )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parts = parser.add_subparsers(required=True)
    first = parts.add_parser("compile", help="where TensorFlow is")
    first.add_argument("--config", required=True, help="what to train: a file in configs/")
    first.add_argument("--output", type=pathlib.Path, required=True, help="folder to write")
    first.add_argument("--batch", type=int, action="append", required=True)
    first.add_argument("--precision", action="append", required=True)
    first.add_argument("--log_every", type=int, default=20, help="steps of a line, and of a call")
    first.set_defaults(do=compile_all)
    second = parts.add_parser("run", help="on the device; needs no TensorFlow")
    second.add_argument("steps", type=pathlib.Path, help="folder of the first command")
    second.add_argument("--seconds", type=float, default=30.0, help="of training, for each")
    second.set_defaults(do=run_all)
    args, args.more = parser.parse_known_args()
    if args.more and args.do is run_all:
        parser.error(f"unexpected argument {args.more[0]!r}")
    with told():
        args.do(args)


if __name__ == "__main__":
    main()
