#!/usr/bin/env python3
"""Compares what removing a block costs after two trainings, block by block.

    benchmarks/robustness.py runs/emoji/plain runs/emoji/robust

Each is a workdir of tools/evolve.py that scored every removal in its first round, with the same
prompts (--config.rounds=1 --config.confidence=1e9). Prints a table in Markdown, whose errors are
those of paired differences over the prompts. docs/architecture.md has a result.
"""

import json
import pathlib
import sys

import numpy as np

# Programs are run from anywhere: the repository's root holds `tools`.
sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))

from tfsnap.metrics.standard_error import standard_error
from tools.program import told


def losses(workdir: str) -> dict[str, np.ndarray]:
    """Of each removal, by how much it lowers the CLIP score, float64 [prompts]."""
    laps = json.loads((pathlib.Path(workdir) / "round-00/scores.json").read_text())
    scores: dict[str, list[float]] = {}
    for key, lap in laps.items():
        scores.setdefault(key.rsplit(", lap", 1)[0], []).extend(lap["scores"])
    found = {action: np.array(values) for action, values in scores.items()}
    base = found.pop("as it is")
    print(f"{workdir}: CLIP score {base.mean():.3f} ± {standard_error(base):.3f} as it is")
    return {action: base - values for action, values in found.items()}


def main(before: str, after: str) -> None:
    one, other = losses(before), losses(after)
    rows = [(a, one[a], other[a]) for a in sorted(one, key=lambda a: -one[a].mean())]
    for kind in ("", "attentions", "resnets"):
        kept = [(one[a], other[a]) for a in one if kind in a]
        rows.append((f"mean of the {kind or 'blocks'}", *np.mean(kept, axis=0)))
    print("\n| removed | before | after | difference |\n|---|---|---|---|")
    for action, a, b in rows:
        apart = f"{(a - b).mean():.3f} ± {standard_error(a - b):.3f}"
        print(f"| {action} | {a.mean():.3f} | {b.mean():.3f} | {apart} |")


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    with told():
        main(*sys.argv[1:])
