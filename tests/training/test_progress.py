"""What a run tells, and where."""

import io
import sys

import pytest
import tensorflow as tf

from tests.full_disk import full_disk
from tfsnap.training.progress import Progress, mean_figures


def progress(folder):
    return Progress("UNet", folder, start=10, steps=20, batch_size=4)


class Terminal(io.StringIO):
    def isatty(self):
        return True


def test_figures_are_means_without_the_updates_that_were_skipped():
    steps = [{"loss": 1.0, "skipped": 0.0}, {"loss": float("nan"), "skipped": 1.0}]
    assert mean_figures([*steps, {"loss": 4.0, "skipped": 0.0}]) == {"loss": 2.5, "skipped": 1 / 3}
    assert mean_figures([{"loss": 1.0}, {"loss": 2.0}]) == {"loss": 1.5}


def test_plain_lines_where_there_is_no_terminal(tmp_path, capsys):
    told = progress(tmp_path)
    told.report(15, {"loss": 0.25})
    told.close()
    line = capsys.readouterr().out
    assert line.startswith("UNet: step 15/20  loss 0.25  ") and line.endswith(" left\n")
    assert "steps/s" in line


def test_a_bar_on_a_terminal(tmp_path, capsys, monkeypatch):
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    told = progress(tmp_path)
    told.report(15, {"loss": 0.25})
    told.close()
    assert "UNet:" in terminal.getvalue() and "15/20" in terminal.getvalue()
    assert "loss=0.25" in terminal.getvalue()
    assert capsys.readouterr().out == ""


def test_tensorboard_gets_figures_and_throughput(tmp_path):
    told = progress(tmp_path)
    told.report(15, {"loss": 0.25, "learning_rate": 1e-3})
    told.close()
    (file,) = tmp_path.iterdir()
    events = [event for event in tf.compat.v1.train.summary_iterator(str(file)) if event.step]
    found = {v.tag: float(tf.make_ndarray(v.tensor)) for e in events for v in e.summary.value}
    assert found["loss"] == 0.25
    assert found["throughput/examples_per_second"] > 0
    assert set(found) == {"loss", "learning_rate", "throughput/examples_per_second"}
    assert {event.step for event in events} == {15}


def test_a_worker_that_is_not_the_first_is_silent(capsys):
    told = progress(None)
    told.report(15, {"loss": 0.25})
    told.pictures(15, {})
    told.close()
    assert capsys.readouterr() == ("", "")


def test_a_disk_that_cannot_be_written_is_one_line(tmp_path):
    with full_disk(room=1), pytest.raises(OSError, match="TensorBoard's events: .*too large"):
        progress(tmp_path / "full")
    (tmp_path / "file").touch()
    with pytest.raises(OSError, match="TensorBoard's events: .*is not a directory") as error:
        progress(tmp_path / "file" / "tensorboard")
    assert len(str(error.value).splitlines()) == 1


def test_a_disk_that_fills_up_is_told_once(tmp_path):
    told = progress(tmp_path)
    with full_disk(room=1):
        with pytest.raises(OSError, match="cannot write TensorBoard's events: .*too large"):
            told.report(15, {"loss": 0.25})
        told.close()
