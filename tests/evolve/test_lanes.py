"""Edits are scored side by side, once each."""

import json
import threading

import numpy as np
import pytest

from tfsnap.evolve.actions import Action
from tfsnap.evolve.lanes import Known, Lanes

ACTIONS = [None, *(Action("remove", "attention", "mid", 0, k) for k in range(5))]


def scores(action, lap):
    return np.array([0 if action is None else 1 + action.attention, lap], float)


def test_all_devices_work_at_once_and_results_keep_their_order(tmp_path):
    together = threading.Barrier(2, timeout=60)  # Breaks, if one lane waits for the other.
    used = []

    def lane(name):
        def measure(action, lap):
            together.wait()
            used.append(name)
            return scores(action, lap)

        return measure

    found = Lanes([lane("a"), lane("b")], Known(tmp_path / "scores.json", "w"))(ACTIONS, 3)
    np.testing.assert_array_equal(found, [scores(action, 3) for action in ACTIONS])
    assert sorted(used) == ["a"] * 3 + ["b"] * 3


def test_what_is_known_is_not_measured_again(tmp_path):
    path = tmp_path / "scores.json"
    asked = []

    def measure(action, lap):
        asked.append((action, lap))
        return scores(action, lap)

    Lanes([measure], Known(path, "w"))(ACTIONS[:2], 0)
    known = Known(path, "w")
    assert known.pictures == 4 and known.seconds >= 0
    found = Lanes([measure], known)(ACTIONS[:3], 0)
    np.testing.assert_array_equal(found, [scores(action, 0) for action in ACTIONS[:3]])
    assert asked == [(action, 0) for action in ACTIONS[:3]]
    assert len(json.loads(path.read_text())) == 3


def test_scores_of_other_weights_are_measured_again(tmp_path):
    path = tmp_path / "scores.json"

    def other(action, lap):
        return scores(action, lap) + 100

    Lanes([other], Known(path, "trained before"))(ACTIONS[:2], 0)
    known = Known(path, "trained again")
    assert known.pictures == 0
    np.testing.assert_array_equal(Lanes([scores], known)(ACTIONS[:1], 0), [scores(None, 0)])
    assert len(json.loads(path.read_text())) == 1
    values = {key: {"scores": [5.0], "seconds": 1.0} for key in json.loads(path.read_text())}
    path.write_text(json.dumps(values))  # Of an earlier version.
    assert Lanes([scores], Known(path, "trained again"))(ACTIONS[:1], 0)[0] == [5.0]


def test_an_error_ends_the_lap_and_keeps_what_is_measured(tmp_path):
    def measure(action, lap):
        if action == ACTIONS[2]:
            raise ValueError("no memory")
        return scores(action, lap)

    with pytest.raises(ValueError, match="no memory"):
        Lanes([measure], Known(tmp_path / "scores.json", "w"))(ACTIONS, 0)
    assert Known(tmp_path / "scores.json", "w").pictures >= 4
