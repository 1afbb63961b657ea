"""Ratios in pairs; the timing itself is that of `time_network`."""

from types import SimpleNamespace

import pytest

from tfsnap.bench import turns
from tfsnap.bench.turns import time_in_turn
from tfsnap.runtime.errors import RequestError


@pytest.fixture
def clock(monkeypatch):
    """A machine that gets slower from round to round; returns what was measured."""
    calls = []

    def time_network(model, *, name, threads, warmup, runs):
        slowness = 1.0 + len(calls) // 2 * 10.0
        calls.append((name, threads, warmup, runs))
        return SimpleNamespace(warm_p50_ms=slowness * {b"slow": 8.0, b"fast": 2.0}[model])

    backend = SimpleNamespace(name="interpreter", version="1.2")
    monkeypatch.setattr(turns, "time_network", time_network)
    monkeypatch.setattr(turns, "find_backend", lambda _: backend)
    fake = SimpleNamespace(delegate=lambda: "none")
    monkeypatch.setattr(turns, "load", lambda model, name: fake)
    return calls


def test_ratios_do_not_see_a_machine_that_slows_down(clock):
    models = {"teacher": b"slow", "student": b"fast"}
    report = time_in_turn(models, threads=1, warmup=4, runs=5, rounds=3)
    assert [name for name, *_ in clock] == [
        *("teacher", "student"),
        *("student", "teacher"),
        *("teacher", "student"),
    ]
    assert {tuple(rest) for _, *rest in clock} == {(1, 4, 5)}
    student = report.networks["student"]
    assert (student.ratio, student.lowest, student.highest) == (0.25, 0.25, 0.25)
    assert (report.networks["teacher"].ms, student.ms) == (88.0, 22.0)
    assert report.networks["teacher"].ratio == 1.0
    assert (report.threads, report.warmup, report.runs, report.rounds) == (1, 4, 5, 3)
    assert (report.delegate, report.interpreter) == ("none", "interpreter 1.2")
    assert "cores" in report.device


def test_there_must_be_a_round(clock):
    with pytest.raises(RequestError, match="rounds is 0"):
        time_in_turn({"teacher": b"slow"}, rounds=0)
