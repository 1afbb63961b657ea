"""Means over trainings against scipy's standard error of the mean."""

import json

import numpy as np
import pytest
import scipy.stats

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
        {"real": Distances(estimate(1 - score))},
        baseline and Difference(baseline, estimate(score - 0.7), estimate(score**2 - 0.5)),
    )


def near(estimate, values):
    expected = (np.mean(values), scipy.stats.sem(values))
    assert (estimate.value, estimate.error) == pytest.approx(expected)


def test_means_and_errors_are_between_trainings():
    results = [result(f"cfg@{i}", score, baseline="mix, 2 steps") for i, score in enumerate(SCORES)]
    (found,) = over_trainings(results)
    assert (found.point, found.trainings) == (Point("cfg", 2, 2.0), 3)
    near(found.clip_score, SCORES)
    near(found.top1, np.square(SCORES))
    near(found.frechet["real"], 1 - np.array(SCORES))
    assert found.baseline == "mix, 2 steps"
    near(found.clip_score_difference, np.array(SCORES) - 0.7)
    near(found.top1_difference, np.square(SCORES) - 0.5)


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
    means = [(m.point, m.clip_score.value) for m in over_trainings(results)]
    assert [point for point, _ in means] == [
        Point("late", 2, 2.0),
        Point("late", 2, 4.0),
        Point("early", 8, 2.0),
    ]
    assert [value for _, value in means] == pytest.approx([0.6, 0.7, 0.2])


def test_each_may_be_compared_with_the_baseline_of_its_number():
    results = [result(f"a@{i}", 0.5 + i, baseline=f"mix@{i}, 2 steps") for i in range(2)]
    (found,) = over_trainings(results)
    assert found.baseline == "mix@*, 2 steps"
    near(found.clip_score_difference, [-0.2, 0.8])
    results = [result(f"a@{i}", 0.5 + i, baseline="mix@1, 2 steps") for i in range(2)]
    assert over_trainings(results)[0].baseline == "mix@1, 2 steps"


def test_differences_from_different_baselines_have_no_mean():
    for second in (None, "other, 2 steps", "mix@1, 2 steps"):
        results = [
            result("a@1", 0.5, baseline="mix, 2 steps"),
            result("a@2", 0.6, baseline=second),
        ]
        (found,) = over_trainings(results)
        assert found.baseline is None and found.clip_score_difference is None


def test_the_tables_of_a_sweep_have_them(tmp_path):
    results = [
        *(result(f"cfg@{i}", score, baseline="mix, 2 steps") for i, score in enumerate(SCORES)),
        *(result(f"mix@{i}", score) for i, score in enumerate(SCORES)),
    ]
    write_results(results, {}, tmp_path)
    table = (tmp_path / "results.md").read_text()
    assert "| cfg | 3 | 2 | 2 | 0.6433 +- 0.02 |" in table
    assert "| mix, 2 steps | -0.05667 +- 0.02 |" in table
    (line,) = [line for line in table.splitlines() if line.startswith("| mix | 3 |")]
    assert line.endswith("|  |  |  |")
    trainings = json.loads((tmp_path / "results.json").read_text())["trainings"]
    assert [mean["point"]["network"] for mean in trainings] == ["cfg", "mix"]
    assert trainings[0]["frechet"]["real"]["value"] == pytest.approx(1 - np.mean(SCORES))
