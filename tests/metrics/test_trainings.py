"""Means over trainings against scipy's standard error of the mean."""

import json

import numpy as np
import pytest
import scipy.stats

from tfsnap.metrics import curves
from tfsnap.metrics.curves import write_results
from tfsnap.metrics.quality import Agreement, Difference, Distances, Estimate
from tfsnap.metrics.sweep import Point, Result
from tfsnap.metrics.trainings import over_trainings

SCORES = (0.61, 0.68, 0.64)


def result(network, score, *, baseline=None, guidance=2.0, steps=2):
    def estimate(value):
        return Estimate(value, 9.0)  # Of the pictures: what is measured here is between trainings.

    return Result(
        Point(network, steps, guidance),
        40,
        Agreement(estimate(score), estimate(score**2), 0.01),
        {"real": Distances(estimate(1 - score), estimate(2 - score))},
        baseline and Difference(baseline, estimate(score - 0.7), estimate(score**2 - 0.5)),
    )


def near(estimate, values):
    expected = (np.mean(values), scipy.stats.sem(values))
    assert (estimate.value, estimate.error) == pytest.approx(expected)


def test_means_and_errors_are_between_trainings():
    results = [result(f"cfg@{i}", score, baseline="mix, 2 steps") for i, score in enumerate(SCORES)]
    (found,) = over_trainings(results)
    mean, distances = found.mean, found.mean.distances["real"]
    assert (found.trainings, mean.point, mean.count) == (3, Point("cfg", 2, 2.0), 40)
    near(mean.agreement.clip_score, SCORES)
    near(mean.agreement.top1, np.square(SCORES))
    near(distances.frechet, 1 - np.array(SCORES))
    near(distances.kernel, 2 - np.array(SCORES))
    assert distances.clip is None
    assert mean.difference.baseline == "mix, 2 steps"
    near(mean.difference.clip_score, np.array(SCORES) - 0.7)
    near(mean.difference.top1, np.square(SCORES) - 0.5)


def test_other_names_steps_and_scales_are_apart_and_in_the_order_of_the_sweep():
    results = [
        result("plain", 0.9),
        result("plain-2", 0.9),
        result("late@a", 0.5),
        result("late@a", 0.6, guidance=4.0),
        result("late@b", 0.7),
        result("late@b", 0.8, guidance=4.0),
        result("early@1", 0.1, steps=8),
        result("early@2", 0.3, steps=8),
        result("early@2", 0.3),  # A single one.
    ]
    found = [one.mean for one in over_trainings(results)]
    means = [(mean.point, mean.agreement.clip_score.value) for mean in found]
    assert [point for point, _ in means] == [
        Point("late", 2, 2.0),
        Point("late", 2, 4.0),
        Point("early", 8, 2.0),
    ]
    assert [value for _, value in means] == pytest.approx([0.6, 0.7, 0.2])


def test_each_may_be_compared_with_the_baseline_of_its_number():
    results = [result(f"a@{i}", 0.5 + i, baseline=f"mix@{i}, 2 steps") for i in range(2)]
    difference = over_trainings(results)[0].mean.difference
    assert difference.baseline == "mix@*, 2 steps"
    near(difference.clip_score, [-0.2, 0.8])
    results = [result(f"a@{i}", 0.5 + i, baseline="mix@1, 2 steps") for i in range(2)]
    assert over_trainings(results)[0].mean.difference.baseline == "mix@1, 2 steps"


def test_differences_from_different_baselines_have_no_mean():
    for second in (None, "other, 2 steps", "mix@1, 2 steps"):
        results = [
            result("a@1", 0.5, baseline="mix, 2 steps"),
            result("a@2", 0.6, baseline=second),
        ]
        assert over_trainings(results)[0].mean.difference is None


def test_the_tables_of_a_sweep_have_them(tmp_path):
    results = [
        *(result(f"cfg@{i}", score, baseline="mix, 2 steps") for i, score in enumerate(SCORES)),
        *(result(f"mix@{i}", score) for i, score in enumerate(SCORES)),
    ]
    write_results(results, {}, tmp_path)
    table = (tmp_path / "results.md").read_text()
    assert "| cfg@0 | 2 | 2 | 0.61 +- 9 |" in table
    _, means = table.split("Means over trainings by several seeds")
    assert "| cfg | 2 | 2 | 0.6433 +- 0.02 |" in means
    assert "| cfg | 2 | 2 | mix, 2 steps | -0.05667 +- 0.02 |" in means
    assert means.count("| mix | 2 | 2 |") == 1 and "@" not in means
    trainings = json.loads((tmp_path / "results.json").read_text())["trainings"]
    assert [one["point"]["network"] for one in trainings] == ["cfg", "mix"]
    assert [one["trainings"] for one in trainings] == [3, 3]
    distance = trainings[0]["distances"]["real"]["frechet"]["value"]
    assert distance == pytest.approx(1 - np.mean(SCORES))


def test_plots_have_a_line_for_several_trainings(tmp_path, monkeypatch):
    drawn, lines = [], curves.curves
    monkeypatch.setattr(curves, "curves", lambda found: drawn.append(found) or lines(found))
    results = [result("plain", 0.5), result("one@1", 0.6), result("cfg@1", 0.7)]
    write_results([*results, result("cfg@2", 0.8)], {}, tmp_path)
    names = [[found.point.network for found in results] for results in drawn]
    assert names == [["plain", "one@1", "cfg"]] * 2  # Fréchet distance and KID.


def test_no_two_lines_of_a_plot_look_alike(tmp_path, monkeypatch):
    figures = []
    monkeypatch.setattr(
        "matplotlib.figure.Figure.savefig", lambda self, *_, **__: figures.append(self)
    )
    write_results([result(f"network{i}", 0.5 + i / 100) for i in range(18)], {}, tmp_path)
    for axes in figures[0].axes:
        lines = [container.lines[0] for container in axes.containers]
        assert len({(line.get_color(), line.get_marker()) for line in lines}) == len(lines) == 18
