"""A sweep for people: distance against CLIP score, as in SnapFusion's Figs. 4, 6 and 7."""

import dataclasses
import itertools
import pathlib
from collections.abc import Mapping, Sequence

from tfsnap.config import write_json
from tfsnap.metrics.judge import Floor
from tfsnap.metrics.quality import Distances, Estimate
from tfsnap.metrics.sweep import Result
from tfsnap.metrics.trainings import Trained, over_trainings

_TITLES = {"frechet": "Frechet distance", "kernel": "KID", "clip": "CMMD"}


def write_results(
    results: Sequence[Result],
    floors: Mapping[str, Floor],
    folder: pathlib.Path,
) -> None:
    """Writes `results.json`, `results.md` and a plot for each reference, `NAME.png`.

    Args:
      results: at least one.
      floors: by the name of the reference; those without features have none.
      folder: where to.
    """
    trained = over_trainings(results)
    values = {
        "points": [result.to_dict() for result in results],
        "trainings": [{"trainings": one.trainings, **one.mean.to_dict()} for one in trained],
        "floors": {name: dataclasses.asdict(floor) for name, floor in floors.items()},
    }
    write_json(folder / "results.json", values)
    names = list(results[0].distances)
    tables = _tables(results, floors)
    if trained:
        tables += ["Means over trainings by several seeds, with standard errors between them:\n"]
        tables += _tables([one.mean for one in trained], {})
    (folder / "results.md").write_text("\n".join(tables))
    for name in names:
        _plot(_lines(results, trained), name, floors.get(name), folder / f"{name}.png")


def _tables(results: Sequence[Result], floors: Mapping[str, Floor]) -> list[str]:
    """A table for each reference, and one of differences where there are any."""
    tables = [_table(results, name, floors.get(name)) for name in results[0].distances]
    return tables + ([_differences(results)] if any(r.difference for r in results) else [])


def _lines(results: Sequence[Result], trained: Sequence[Trained]) -> list[Result]:
    """What is drawn: of several trainings their mean."""
    means = [one.mean for one in trained]
    drawn = {mean.point for mean in means}
    return [*(result for result in results if result.point.shared not in drawn), *means]


def _table(results: Sequence[Result], name: str, floor: Floor | None) -> str:
    """One reference in Markdown; errors are standard errors."""
    lines = [
        f"Distances from {name}, {results[0].count} pictures a point.",
        "",
        "| network | steps | guidance | CLIP score | top-1 | Frechet | KID | CMMD |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for result in results:
        p, d = result.point, result.distances[name]
        lines.append(
            f"| {p.network} | {p.steps} | {p.guidance:g} | {result.agreement.clip_score} "
            f"| {result.agreement.top1} | {_cells(d)} |"
        )
    if floor:
        lines.append(f"| real pictures ({floor.count}) | | | | | {_cells(floor.distances)} |")
    return "\n".join(lines) + "\n"


def _differences(results: Sequence[Result]) -> str:
    """What was compared picture by picture, in Markdown."""
    lines = [
        "Differences from a baseline's pictures of the same captions and noise, one by one.",
        "",
        "| network | steps | guidance | baseline | CLIP score | top-1 |",
        "|---|---|---|---|---|---|",
    ]
    for result in results:
        p, d = result.point, result.difference
        if d:
            place = f"{p.network} | {p.steps} | {p.guidance:g}"
            lines.append(f"| {place} | {d.baseline} | {d.clip_score} | {d.top1} |")
    return "\n".join(lines) + "\n"


def _cells(found: Distances) -> str:
    return " | ".join(str(e or "") for e in (found.frechet, found.kernel, found.clip))


def _plot(results: Sequence[Result], name: str, floor: Floor | None, path: pathlib.Path) -> None:
    from matplotlib import cycler, rcParams  # Here: it takes a second to import.
    from matplotlib.figure import Figure  # No display is needed.

    # CLIP's features give all three, Inception's no CMMD, and without features it is one.
    kinds = [kind for kind in _TITLES if getattr(results[0].distances[name], kind)]
    figure = Figure(figsize=(5.5 * len(kinds), 4.5), layout="constrained")
    for axes, kind in zip(figure.subplots(1, len(kinds), squeeze=False)[0], kinds, strict=True):
        # Ten colours, and again with the next marker: no two lines of forty look alike.
        axes.set_prop_cycle(cycler(marker=list("os^D")) * rcParams["axes.prop_cycle"])
        for label, line in curves(results):
            x = [result.agreement.clip_score for result in line]
            y: list[Estimate] = [getattr(result.distances[name], kind) for result in line]
            axes.errorbar(
                [e.value for e in x],
                [e.value for e in y],
                xerr=[e.error for e in x],
                yerr=[e.error for e in y],
                linestyle="-",
                capsize=2,
                label=label,
            )
            for result, score, distance in zip(line, x, y, strict=True):
                at, text = (score.value, distance.value), f"{result.point.guidance:g}"
                axes.annotate(text, at, (4, 4), textcoords="offset points", fontsize=7)
        if floor:
            real = getattr(floor.distances, kind).value
            axes.axhline(real, linestyle=":", color="grey", label=f"real pictures ({floor.count})")
        fid = kind == "frechet" and results[0].distances[name].fid
        title = "FID" if fid else _TITLES[kind]
        axes.set(xlabel="CLIP score", ylabel=f"{title} from {name}")
    axes.legend(fontsize=8)
    figure.savefig(path, dpi=120)


def curves(results: Sequence[Result]) -> list[tuple[str, list[Result]]]:
    """A line for each network and number of steps, along its guidance scales."""

    def line(result: Result) -> tuple[str, int]:
        return result.point.network, result.point.steps

    ordered = sorted(results, key=lambda result: (*line(result), result.point.guidance))
    return [
        (f"{network}, {steps} steps", list(points))
        for (network, steps), points in itertools.groupby(ordered, line)
    ]
