#!/usr/bin/env python3
"""The table of the 64 px emoji model: every step of the method, its quality, latency and size.

    benchmarks/emoji_results.py --output=runs/emoji/results

The teacher is the one that ships; the others are runs below --runs, of
configs/emoji/unet.py:finetuned, configs/emoji/distill.py and configs/emoji/decoder_distill.py:full.
Exports each network as a bundle, draws the captions of both splits that training did not see with
tools/sweep.py, measures a picture's latency with tools/benchmark.py, and prints a table. All of it
goes on where it was stopped. Without the runs the rows of the teacher and of the bundles that ship
are left; the others are named.
"""

import argparse
import json
import pathlib
import sys
from typing import Any, NamedTuple

# Programs are run from anywhere: the repository's root holds `tools`.
sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))

from tools.program import ROOT, call, told

PRESETS = ROOT / "tfsnap/presets/emoji-64"
SPLITS = ("validation", "holdout")
WEIGHTS = "weights.safetensors"


class Row(NamedTuple):
    """A line of the table.

    Attributes:
      name: of its bundle.
      label: for people.
      run: folder of its network below --runs; "" is the teacher that ships.
      precision: of the bundle.
      steps: of a picture.
      guidance: its scale; where it is baked in, that one counts.
      decoder: folder of the efficient decoder's run; "" is the autoencoder that ships.
      shipped: the bundle of the presets that is taken where the runs are missing.
    """

    name: str
    label: str
    run: str
    precision: str
    steps: int
    guidance: float = 2.0
    decoder: str = ""
    shipped: str = ""


_BAKED = "distilled, guidance baked in"
_SMALL = f"{_BAKED}, efficient decoder"
ROWS = (
    Row("teacher50", "teacher", "", "fp16", 50),
    Row("teacher8", "teacher", "", "fp16", 8),
    Row("teacher8-int8", "teacher", "", "int8", 8),
    Row("undistilled8", "efficient UNet, not distilled", "finetuned", "fp16", 8),
    Row("student8", "distilled, guided", "distill/efficient8", "fp16", 8),
    Row("baked8-int8", _BAKED, "distill/baked8", "int8", 8),
    Row("small8", _SMALL, "distill/baked8", "fp16", 8, 2.0, "decoder", "emoji-64-fp16.tfsnap"),
    Row("small8-int8", _SMALL, "distill/baked8", "int8", 8, 2.0, "decoder", "emoji-64-int8.tfsnap"),
    Row("small4", _SMALL, "distill/baked4", "fp16", 4, decoder="decoder"),
    Row("small4-int8", _SMALL, "distill/baked4", "int8", 4, decoder="decoder"),
    Row("small1-int8", _SMALL, "distill/baked1", "int8", 1, decoder="decoder"),
)


def _tool(name: str, *arguments: object) -> None:
    # The run that ships names its networks from the root.
    call(f"tools/{name}", *arguments, cwd=ROOT)


def workdir_of(row: Row, args: argparse.Namespace) -> pathlib.Path:
    """The run of a row's network."""
    return args.runs / row.run if row.run else PRESETS / "teacher"


def missing_runs(row: Row, args: argparse.Namespace) -> list[str]:
    """Folders of a row's networks that hold no weights."""
    runs = [workdir_of(row, args), *([args.runs / row.decoder] if row.decoder else [])]
    return [str(run) for run in runs if not (run / WEIGHTS).is_file()]


def bundle_of(row: Row, args: argparse.Namespace) -> pathlib.Path:
    """Exports a row's bundle, unless that is done."""
    if row.shipped and missing_runs(row, args):
        return PRESETS / row.shipped
    workdir = workdir_of(row, args)
    parts = (workdir.name, row.decoder, row.precision)
    path = args.output / "bundles" / f"{'-'.join(filter(None, parts))}.tfsnap"
    if not path.is_file():
        decoder = args.runs / row.decoder / WEIGHTS
        given = [f"--autoencoder={decoder}"] if row.decoder else []
        _tool(
            "export.py",
            f"--workdir={workdir}",
            f"--output={path}",
            f"--precision={row.precision}",
            *given,
        )
    return path


def sweep(split: str, bundles: dict[Row, pathlib.Path], args: argparse.Namespace) -> dict[str, Any]:
    """Quality on the captions of a split: `points` by name, and `floors`."""
    networks = ",".join(
        f"{row.name}={path}?steps={row.steps}&guidance={row.guidance:g}"
        for row, path in bundles.items()
    )
    output = args.output / split
    _tool(
        "sweep.py",
        f"--networks={networks}",
        f"--clip={PRESETS / 'clip.safetensors'}",
        f"--split={split}",
        f"--count={args.count}",
        "--among=prompts",
        f"--output={output}",
    )
    values = json.loads((output / "results.json").read_text())
    points = {point["point"]["network"]: point for point in values["points"]}
    return {"points": points, "floors": values["floors"]}


def latency(row: Row, bundle: pathlib.Path, args: argparse.Namespace) -> dict[str, Any]:
    """The report of tools/benchmark.py, measured once."""
    path = args.output / f"latency-{row.name}.json"
    if not path.is_file():
        how = {"steps": row.steps, "guidance": row.guidance, "threads": 2, "json": path}
        _tool("benchmark.py", f"--bundle={bundle}", *(f"--{k}={v}" for k, v in how.items()))
    return json.loads(path.read_text())


def _estimate(found: dict[str, float], form: str) -> str:
    return f"{found['value']:{form}} ± {found['error']:{form}}"


def _line(row: Row, bundle: pathlib.Path, quality: dict[str, Any], report: dict[str, Any]) -> str:
    cells = []
    for split in SPLITS:
        point = quality[split]["points"][row.name]
        top1, score = point["agreement"]["top1"], point["agreement"]["clip_score"]
        cells.append(f"{top1['value']:.1%} ± {top1['error']:.1%}")
        cells.append(_estimate(score, ".3f"))
        cells.append(_estimate(point["distances"][split]["frechet"], ".3f"))
    picture = report["picture"]["warm_p50_ms"]
    size = bundle.stat().st_size / 1e6
    return (
        f"| {row.label}, {row.precision} | {row.steps} | {report['evaluations']} | "
        f"{' | '.join(cells)} | {picture:.0f} ms | {size:.1f} MB |"
    )


def table(args: argparse.Namespace) -> str:
    """Measures what is missing and returns the table in Markdown."""
    there = []
    for row in ROWS:
        missing = missing_runs(row, args)
        if missing and not row.shipped:
            print(f"left out: {row.name}, as {' and '.join(missing)} lack {WEIGHTS}")
        else:
            there.append(row)
    bundles = {row: bundle_of(row, args) for row in there}
    quality = {split: sweep(split, bundles, args) for split in SPLITS}
    reports = {row: latency(row, path, args) for row, path in bundles.items()}
    columns = [f"{split}: {what}" for split in SPLITS for what in ("top-1", "CLIP", "Fréchet")]
    head = ["network", "steps", "evaluations", *columns, "a picture", "bundle"]
    lines = [f"| {' | '.join(head)} |", "|---" * len(head) + "|"]
    lines += [_line(row, path, quality, reports[row]) for row, path in bundles.items()]
    floors = [quality[s]["floors"][s]["distances"]["frechet"] for s in SPLITS]
    real = [cell for floor in floors for cell in ("", "", _estimate(floor, ".3f"))]
    lines.append(f"| real pictures against real ones | | | {' | '.join(real)} | | |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--runs", type=pathlib.Path, default=pathlib.Path("runs/emoji"))
    parser.add_argument("--output", type=pathlib.Path, default=pathlib.Path("runs/emoji/results"))
    parser.add_argument("--count", type=int, default=500, help="captions of a split")
    args = parser.parse_args()
    args.runs, args.output = args.runs.resolve(), args.output.resolve()
    with told():
        found = table(args)
        print(found)
        (args.output / "results.md").write_text(found + "\n")


if __name__ == "__main__":
    main()
