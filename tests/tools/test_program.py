"""How programs end: in one line where their user can mend it, else with a traceback."""

import sys

import pytest

from tfsnap.data.fetch import FetchError
from tfsnap.evolve.latency import LatencyError
from tfsnap.runtime.errors import InterpreterError, NotFiniteError
from tfsnap.training.portable_runner import DivergedError
from tfsnap.training.strategy import StrategyError
from tfsnap.training.trainer import TrainingError
from tfsnap.weights.store import WeightFileError
from tools.program import run_main, told


@pytest.fixture(autouse=True)
def program(monkeypatch):
    monkeypatch.setattr(sys, "argv", ["somewhere/paint.py"])


@pytest.mark.parametrize(
    "error",
    [
        DivergedError,
        FetchError,
        InterpreterError,
        LatencyError,
        NotFiniteError,
        PermissionError,
        StrategyError,
        TrainingError,
        ValueError,
        WeightFileError,
    ],
)
def test_what_the_user_can_mend_is_one_line_with_the_programs_name(error):
    with pytest.raises(SystemExit) as end, told():
        raise error("no brush: buy one")
    assert end.value.code == "paint: no brush: buy one"


def test_ctrl_c_is_one_line():
    with pytest.raises(SystemExit) as end, told():
        raise KeyboardInterrupt
    assert end.value.code == "paint: interrupted"


@pytest.mark.parametrize("error", [RuntimeError, TypeError, KeyError])
def test_mistakes_of_the_program_keep_their_traceback(error):
    with pytest.raises(error), told():
        raise error("canvas")


def test_programs_take_flags_alone(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["paint.py", "red"])
    with pytest.raises(SystemExit) as end:
        run_main(lambda: None)
    assert end.value.code == 1
    assert "unexpected argument 'red'" in capsys.readouterr().err
