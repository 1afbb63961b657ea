"""The figures that a portable step tells."""

import json

import pytest

from tfsnap.training import portable_log
from tfsnap.training.portable_log import Log


@pytest.fixture
def clock(monkeypatch):
    now = [0.0]
    monkeypatch.setattr(portable_log.time, "monotonic", lambda: now[0])
    return now


def test_two_reports_at_once_are_one_rate(clock, tmp_path, capsys):
    log = Log("UNet", tmp_path / "figures.jsonl", start=0, last=400)
    for step, now in ((100, 10.0), (200, 20.0), (300, 40.0), (400, 40.00001)):
        clock[0] = now
        log.report(step, {"loss": 1.0})
    lines = map(json.loads, (tmp_path / "figures.jsonl").read_text().splitlines())
    rates = [line["steps_per_second"] for line in lines]
    assert rates == pytest.approx([10, 10, 5, 10], rel=1e-3)
    assert "step 400/400  loss 1  10.00 steps/s  0:00 left" in capsys.readouterr().out
