"""A bundle's folder appears whole or not at all."""

import errno
import os
import signal
import subprocess
import sys

import pytest

from tests.runtime.processes import ROOT
from tfsnap.export.publishing import ExportError, published

MARKER = "manifest.json"
# Writes half of a bundle, says so, and waits to be killed.
HALF = """
import pathlib, sys, time
from tfsnap.export.publishing import published
with published(pathlib.Path(sys.argv[1])) as folder:
    (folder / "manifest.json").write_text("new")
    print(folder, flush=True)
    time.sleep(600)
"""


def publish(output, text):
    with published(output) as folder:
        (folder / MARKER).write_text(text)


def names(folder):
    return sorted(path.name for path in folder.iterdir())


@pytest.fixture
def half(tmp_path):
    """A process in the midst of an export."""
    publish(tmp_path / "bundle", "old")
    process = subprocess.Popen(
        [sys.executable, "-c", HALF, str(tmp_path / "bundle")],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        text=True,
    )
    process.folder = process.stdout.readline().strip()
    yield process
    process.kill()
    process.wait()


def test_a_killed_process_leaves_the_old_bundle_and_the_next_cleans_up(half, tmp_path):
    os.kill(half.pid, signal.SIGKILL)
    half.wait()
    assert (tmp_path / "bundle" / MARKER).read_text() == "old"
    assert os.path.isdir(half.folder)
    publish(tmp_path / "bundle", "newer")
    assert (tmp_path / "bundle" / MARKER).read_text() == "newer"
    assert names(tmp_path) == ["bundle"]


def test_the_folder_of_a_process_at_work_is_left_alone(half, tmp_path):
    publish(tmp_path / "bundle", "newer")
    assert os.path.isfile(os.path.join(half.folder, MARKER))


def test_killed_while_two_folders_change_places(tmp_path, monkeypatch):
    output = tmp_path / "bundle"
    publish(output, "old")

    def killed(*arguments):
        raise KeyboardInterrupt

    real, moves = os.replace, []

    def replace(source, target):
        moves.append(target)
        if len(moves) == 2:
            killed()
        real(source, target)

    monkeypatch.setattr(os, "replace", replace)
    with pytest.raises(KeyboardInterrupt):
        publish(output, "new")
    assert not output.exists()
    monkeypatch.setattr(os, "replace", real)
    with pytest.raises(KeyboardInterrupt), published(output):
        killed()
    assert (output / MARKER).read_text() == "old"
    assert names(tmp_path) == ["bundle"]


def test_a_full_disk_is_one_line_and_changes_nothing(tmp_path):
    publish(tmp_path / "bundle", "old")
    with (
        pytest.raises(ExportError, match=r"no space is left for .*bundle: free some"),
        published(tmp_path / "bundle") as folder,
    ):
        (folder / MARKER).write_text("new")
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    assert (tmp_path / "bundle" / MARKER).read_text() == "old"
    assert names(tmp_path) == ["bundle"]


def test_a_full_device_is_a_full_disk(tmp_path):
    with pytest.raises(ExportError, match="no space"), published(tmp_path / "b") as folder:
        os.symlink("/dev/full", folder / "unet.tflite")
        (folder / "unet.tflite").write_bytes(b"x" * 10)
    assert names(tmp_path) == []


@pytest.mark.parametrize("place", ["file/bundle", "file/more/bundle"])
def test_an_output_that_cannot_be_written(tmp_path, place):
    (tmp_path / "file").write_text("")
    with pytest.raises(ExportError, match="cannot be written .*; choose another --output"):
        publish(tmp_path / place, "new")


def test_other_failures_keep_their_kind(tmp_path):
    with pytest.raises(FileNotFoundError), published(tmp_path / "b") as folder:
        (folder / "missing").read_bytes()
    assert names(tmp_path) == []
