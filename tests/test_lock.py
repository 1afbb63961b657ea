"""One process at a time."""

import errno
import os
import signal
import subprocess
import sys

import pytest

from tfsnap import lock
from tfsnap.lock import LOCK, BusyError, alone_in

HOLD = """
import sys, time
from tfsnap.lock import alone_in
with alone_in(sys.argv[1]):
    print("at work", flush=True)
    time.sleep(600)
"""


def test_another_process_in_a_workdir_is_named_until_it_is_killed(tmp_path):
    command = [sys.executable, "-c", HOLD, str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as holder:
        assert holder.stdout.readline()
        told = f"another process, pid {holder.pid}, is at work in {tmp_path}: wait for it, or"
        with pytest.raises(BusyError, match=told), alone_in(tmp_path):
            pass
        holder.send_signal(signal.SIGKILL)
    assert (tmp_path / LOCK).exists()
    with alone_in(tmp_path):
        assert int((tmp_path / LOCK).read_text()) == os.getpid()
    assert not (tmp_path / LOCK).exists()


def test_a_workdir_that_got_nothing_leaves_no_trace(tmp_path):
    with alone_in(tmp_path / "runs/a"):
        (tmp_path / "runs/b").mkdir()
    assert [path.name for path in (tmp_path / "runs").iterdir()] == ["b"]


def test_a_workdir_that_is_a_file_is_told(tmp_path):
    (tmp_path / "a").touch()
    told = pytest.raises(NotADirectoryError, match="the workdir .*/a is a file: name a folder")
    with told, alone_in(tmp_path / "a"):
        pass


def test_a_workdir_by_a_relative_path_is_left_from_elsewhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "run").mkdir()
    with alone_in("run"):
        monkeypatch.chdir("/")
    assert not any((tmp_path / "run").iterdir())


def test_a_folder_within_is_another_workdir(tmp_path):
    with alone_in(tmp_path), alone_in(tmp_path / "stage"):
        pass


def test_a_lock_that_its_owner_removes_meanwhile_is_taken_anew(tmp_path, monkeypatch):
    take, handles = lock.take, []

    def late(handle):
        if not handles:
            (tmp_path / LOCK).unlink()
        handles.append(handle)
        return take(handle)

    monkeypatch.setattr(lock, "take", late)
    with alone_in(tmp_path), pytest.raises(BusyError), alone_in(tmp_path):
        pass
    assert len(handles) == 3


def test_where_there_are_no_locks_nobody_is_kept_out(tmp_path, monkeypatch):
    def none(handle):
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(lock, "take", none)
    with alone_in(tmp_path), alone_in(tmp_path):
        pass
    assert not any(tmp_path.iterdir())
