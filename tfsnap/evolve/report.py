"""What a search found, for people: a table of each round and a plot of the whole."""

import io
import pathlib
from collections.abc import Sequence

from tfsnap.config import write_whole
from tfsnap.evolve.actions import ADD
from tfsnap.evolve.state import Round


def table(item: Round) -> str:
    """A round in Markdown.

    Example:
      | action | dCLIP | error | dLatency, ms | 10^3 dCLIP / ms | prompts | chosen |
    """
    lines = [
        f"Round {item.number}: {item.latency:.3f} ms by the table, CLIP score {item.clip:.4f} "
        f"(standard error {item.error:.4f}). Scoring took {item.evaluations:,} evaluations of the "
        f"UNet, {_rate(item)} an hour on a device.",
        "",
        "| action | dCLIP | standard error | dLatency, ms | 1000 dCLIP / ms | prompts | chosen |",
        "|---|---|---|---|---|---|---|",
    ]
    lines += [
        f"| {s.action} | {s.dclip:+.4f} | {s.error:.4f} | {s.dlatency:.3f} | {1e3 * s.score:+.2f} "
        f"| {s.count} | {'yes' if s.chosen else ''} |"
        for s in item.scores
    ]
    if any(s.action.verb == ADD for s in item.scores):
        lines += ["", "An added block has the figures of the block that it copies."]
    return "\n".join(lines) + "\n"


def _rate(item: Round) -> str:
    return f"{3600 * item.evaluations / item.seconds:,.0f}" if item.seconds else "unknown"


def write_report(rounds: Sequence[Round], folder: pathlib.Path, *, target: float) -> None:
    """Writes `rounds.md` and, of CLIP against latency, `rounds.png`, each complete or not at all.

    Args:
      rounds: at least one.
      folder: where to.
      target: the latency objective, milliseconds.
    """
    write_whole(folder / "rounds.md", "\n".join(map(table, rounds)).encode())
    write_whole(folder / "rounds.png", _plot(rounds, target))


def pareto(rounds: Sequence[Round]) -> list[Round]:
    """Those that no other is both faster and better than, fastest first."""
    front: list[Round] = []
    for item in sorted(rounds, key=lambda item: (item.latency, -item.clip)):
        if not front or item.clip > front[-1].clip:
            front.append(item)
    return front


def _plot(rounds: Sequence[Round], target: float) -> bytes:
    """A PNG file."""
    from matplotlib.figure import Figure  # Here: it takes a second to import. No display is needed.

    figure = Figure(figsize=(6, 4), layout="constrained")
    axes = figure.add_subplot()
    latency, clip = [item.latency for item in rounds], [item.clip for item in rounds]
    errors = [item.error for item in rounds]
    axes.errorbar(latency, clip, yerr=errors, fmt="o", capsize=3, label="rounds")
    for item in rounds:
        axes.annotate(
            str(item.number), (item.latency, item.clip), (4, 4), textcoords="offset points"
        )
    front = pareto(rounds)
    axes.plot([i.latency for i in front], [i.clip for i in front], label="Pareto front")
    axes.axvline(target, linestyle=":", color="grey", label="objective")
    axes.set(xlabel="latency by the table, ms", ylabel="CLIP score after robust training")
    axes.legend()
    picture = io.BytesIO()
    figure.savefig(picture, dpi=120, format="png")
    return picture.getvalue()
