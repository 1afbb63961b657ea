"""How programs end: in one line where their user can mend it, else with a traceback."""

import ast
import signal
import subprocess
import sys

import pytest
from absl import flags

from tfsnap.data.fetch import FetchError
from tfsnap.evolve.latency import LatencyError
from tfsnap.runtime.errors import InterpreterError, NotFiniteError
from tfsnap.training.portable_runner import DivergedError
from tfsnap.training.strategy import StrategyError
from tfsnap.training.trainer import TrainingError
from tfsnap.weights.store import WeightFileError
from tools.program import ROOT, call, run_main, told


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


@pytest.mark.parametrize(("after", "more"), [("", ""), ("go on", "; go on")])
def test_ctrl_c_is_one_line_and_the_program_ends_by_the_signal(after, more):
    code = (
        "from tools.program import told\n"
        f"with told({after!r}):\n"
        "    raise KeyboardInterrupt"  # What a background job is not sent.
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout) == (-signal.SIGINT, "")
    assert done.stderr == f"-c: interrupted{more}\n"


def test_the_traceback_of_what_looks_like_the_users_mistake_can_be_seen(monkeypatch):
    monkeypatch.setenv("TFSNAP_TRACEBACK", "1")
    with pytest.raises(ValueError, match="canvas"), told():
        raise ValueError("canvas")


def test_no_program_ends_in_a_way_of_its_own():
    """What goes wrong is told by `told` alone."""
    wrong = [
        f"{path}:{handler.lineno}"
        for folder in ("tools", "benchmarks")
        for path in sorted((ROOT / folder).glob("*.py"))
        if path.name != "program.py"
        for handler in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(handler, ast.ExceptHandler)
        and any("sys.exit(" in ast.unparse(line) for line in handler.body)
    ]
    assert not wrong


def test_a_program_that_another_calls_and_that_fails_is_named(tmp_path, capfd):
    with pytest.raises(SystemExit) as end, told():
        call("tools/__init__.py")  # It is none, and does nothing.
        call("tools/run_step.py", tmp_path / "step", f"--workdir={tmp_path}")
    assert end.value.code == (
        "paint: tools/run_step.py failed, see above; the same command goes on"
    )
    said = capfd.readouterr().err
    assert said.startswith("run_step: ") and str(tmp_path) in said


@pytest.mark.parametrize("error", [RuntimeError, TypeError, KeyError])
def test_mistakes_of_the_program_keep_their_traceback(error):
    with pytest.raises(error), told():
        raise error("canvas")


def test_programs_take_flags_alone(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["paint.py", "red"])
    given = []
    with pytest.raises(SystemExit):
        run_main(given.extend, arguments=True)
    flags.FLAGS.unparse_flags()
    assert given == ["red"]
    with pytest.raises(SystemExit) as end:
        run_main(lambda: None)
    flags.FLAGS.unparse_flags()
    assert end.value.code == 1
    told = capsys.readouterr().err
    assert "unexpected argument 'red'" in told and told.count("\n") == 1
