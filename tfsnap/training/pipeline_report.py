"""What came of a pipeline of distillations, side by side."""

import json
import pathlib
from collections.abc import Sequence
from typing import Any, NamedTuple

_HEAD = ("network", "steps", "sampler", "evaluations", "trained on", "seconds", "CLIP", "top-1")


class Scored(NamedTuple):
    """A network and how it was measured.

    Attributes:
      name: for people.
      workdir: of its run.
      scores: the file that tools/evaluate.py wrote.
    """

    name: str
    workdir: pathlib.Path
    scores: pathlib.Path


def report(rows: Sequence[Scored], *, seconds: pathlib.Path, split: str) -> str:
    """The results in Markdown.

    Args:
      rows: in their order, at least one.
      seconds: JSON file with the seconds that trainings took, by name of the row.
      split: whose captions were drawn.
    """
    taken = read_object(seconds)
    head, *lines = (
        f"| {' | '.join(cells)} |" for cells in (_HEAD, *(_cells(row, taken) for row in rows))
    )
    last = read_object(rows[-1].scores)
    about = (
        f"{last['count']} pictures for captions of {split}, chance {last['chance']:.2%}. "
        "Evaluations are the UNet's for a picture. A network is trained on so many examples, steps "
        "times batch, in so many seconds: its own training alone, not that of what it starts from."
    )
    return "\n".join([head, "|---" * len(_HEAD) + "|", *lines, "", about, ""])


def _cells(row: Scored, seconds: dict[str, float]) -> tuple[str, ...]:
    found = read_object(row.scores)
    training = read_object(row.workdir / "config.json").get("training", {})
    examples = training.get("steps", 0) * training.get("batch_size", 0)
    return (
        row.name,
        str(found["steps"]),
        found["sampler"],
        str(found["evaluations"]),
        f"{examples:,}",
        f"{seconds[row.name]:,.0f}" if row.name in seconds else "",
        f"{found['clip_score']:.4f}",
        f"{found['top1']:.1%}",
    )


def read_object(path: pathlib.Path) -> dict[str, Any]:
    """A JSON object; an empty one where there is no file."""
    return json.loads(path.read_text()) if path.is_file() else {}
