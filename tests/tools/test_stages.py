"""What becomes of a program that another one runs when that is told to stop."""

import os
import shutil
import signal
import subprocess
import sys
import time

import pytest

from tests.terminal import in_a_terminal, started_in_a_terminal
from tests.tools.programs import ROOT
from tests.tools.refusals import ending

TRAINING = """
import pathlib, sys, time
from tfsnap.training.stopping import StopRequest
folder = pathlib.Path(sys.argv[1])
with StopRequest() as stop, stop.deferred():  # A second signal ends it.
    (folder / "started").touch()
    while not stop.signal:
        time.sleep(0.05)
    time.sleep(1.0)  # Its step, of which the checkpoint follows.
    print("a figure", flush=True)
    (folder / "checkpoint").write_text(stop.signal)
"""
PIPELINE = """
import signal, sys
from tools import stages
signal.signal(signal.SIGINT, signal.default_int_handler)  # As in a terminal.
stage = stages.Stage("train", 1.0, "train")
stage.command = sys.argv[1:]
stages.run([stage, stage], "pipeline")
"""


ENVIRONMENT = {**os.environ, "PYTHONPATH": str(ROOT)}


def pipeline_in(folder):
    """The command of a pipeline of one training, twice."""
    (folder / "training.py").write_text(TRAINING)
    return [sys.executable, "-c", PIPELINE, folder / "training.py", folder]


def wait_for(file):
    limit = time.monotonic() + 60.0
    while not file.exists() and time.monotonic() < limit:
        time.sleep(0.05)


def started(folder, *before):
    """A pipeline whose training runs."""
    pipeline = subprocess.Popen(
        [*before, *pipeline_in(folder)],
        env=ENVIRONMENT,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        preexec_fn=in_a_terminal,
    )
    wait_for(folder / "started")
    return pipeline


SIGNALS = [signal.SIGTERM, signal.SIGINT, signal.SIGHUP]


@pytest.mark.parametrize("number", SIGNALS, ids=lambda n: n.name)
def test_a_signal_is_passed_on_and_the_checkpoint_waited_for(tmp_path, number):
    pipeline = started(tmp_path)
    if number == signal.SIGINT:
        os.killpg(pipeline.pid, number)  # A terminal sends it to all of its foreground.
    else:
        pipeline.send_signal(number)
    _, told = pipeline.communicate(timeout=60.0)
    assert (tmp_path / "checkpoint").read_text() == number.name
    expected = f"pipeline: stopped by {number.name}; run the pipeline again to go on\n"
    assert told == expected and pipeline.returncode == 1


@pytest.mark.skipif(not shutil.which("nohup"), reason="there is no nohup")
def test_under_nohup_a_closed_terminal_stops_nothing(tmp_path):
    pipeline = started(tmp_path, "nohup")
    pipeline.send_signal(signal.SIGHUP)
    time.sleep(0.2)
    pipeline.send_signal(signal.SIGTERM)
    _, told = pipeline.communicate(timeout=60.0)
    assert told.endswith("pipeline: stopped by SIGTERM; run the pipeline again to go on\n")
    assert (tmp_path / "checkpoint").read_text() == "SIGTERM"


def test_a_closed_terminal_costs_no_checkpoint(tmp_path):
    """Both still have things to print, which fails where nothing is done about it."""
    pipeline, window = started_in_a_terminal(pipeline_in(tmp_path), env=ENVIRONMENT)
    wait_for(tmp_path / "started")
    os.close(window)
    assert pipeline.wait(timeout=60.0) == 1
    assert (tmp_path / "checkpoint").read_text() == "SIGHUP"


@pytest.mark.parametrize("given", [True, False])
def test_the_demo_writes_to_a_folder_where_its_user_stands(tmp_path, monkeypatch, capsys, given):
    if not given:  # It is the repository's own.
        monkeypatch.setattr("tools.program.ROOT", tmp_path / "root")
    made = tmp_path / ("here/pictures" if given else "root/runs/demo")
    commands = []

    def run(stages, name):
        commands.extend(" ".join(stage.command) for stage in stages)
        (made / "retrieval.json").write_text('{"top1": 1, "count": 1, "chance": 0}')
        return 0.0

    monkeypatch.setattr("tools.stages.run", run)
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    assert ending("demo", *(["--output=pictures"] if given else [])) is None
    told = made if given else "runs/demo"
    assert f" --output={told}/shipped.png" in commands[0]
    assert f"Pictures:  {told}/grid.png" in capsys.readouterr().out
