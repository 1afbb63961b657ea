"""A bundle's folder appears whole or not at all."""

import errno
import json
import os
import pathlib
import signal
import subprocess
import sys
import zipfile

import numpy as np
import pytest

from tests.runtime.processes import ROOT
from tfsnap.data.shards import ShardWriter, TableSpec
from tfsnap.export.publishing import ExportError, published
from tfsnap.runtime import publish as publish_module

MARKER = "manifest.json"
# Writes half of a bundle, says so, and waits to be killed.
HALF = """
import pathlib, sys, time
from tfsnap.export.publishing import published
with published(pathlib.Path(sys.argv[1])) as folder:
    (folder / "manifest.json").write_text('{"format": "tfsnap-bundle", "name": "new"}')
    print(folder, flush=True)
    time.sleep(600)
"""


# A whole bundle in one file; the process is killed while it is published.
KILLED = """
import os, pathlib, signal, sys
from tfsnap.export.publishing import published
os.replace = lambda source, target: os.kill(os.getpid(), signal.SIGKILL)
with published(pathlib.Path(sys.argv[1])) as folder:
    (folder / "manifest.json").write_text('{"format": "tfsnap-bundle", "name": "new"}')
"""


def publish(output, name):
    with published(output) as folder:
        (folder / MARKER).write_text(json.dumps({"format": "tfsnap-bundle", "name": name}))


def name_of(bundle):
    return json.loads((bundle / MARKER).read_text())["name"]


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
    assert name_of(tmp_path / "bundle") == "old"
    assert os.path.isdir(half.folder)
    publish(tmp_path / "bundle", "newer")
    assert name_of(tmp_path / "bundle") == "newer"
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
    assert name_of(output) == "old"
    assert names(tmp_path) == ["bundle"]


def test_a_link_stays_one_and_leads_to_the_new_bundle(tmp_path):
    real, link = tmp_path / "disk" / "real", tmp_path / "home" / "link"
    link.parent.mkdir()
    link.symlink_to(real)  # To nothing yet.
    for text in ("first", "second", "third"):
        publish(link, text)
        assert link.is_symlink()
        assert name_of(real) == text
        assert names(link.parent) == ["link"]
        assert names(real.parent) == ["real"]


def test_a_link_that_an_earlier_version_left_as_the_old_bundle(tmp_path):
    publish(tmp_path / "real", "mine")
    publish(tmp_path / "bundle", "old")
    (tmp_path / ".bundle.old").symlink_to(tmp_path / "real")
    for text in ("new", "newer"):
        publish(tmp_path / "bundle", text)
        assert name_of(tmp_path / "bundle") == text
    assert names(tmp_path) == ["bundle", "real"]
    assert name_of(tmp_path / "real") == "mine"


def test_a_link_to_a_file(tmp_path):
    (tmp_path / "latest.tfsnap").symlink_to(tmp_path / "1.tfsnap")
    publish(tmp_path / "latest.tfsnap", "new")
    assert zipfile.is_zipfile(tmp_path / "1.tfsnap")
    assert (tmp_path / "latest.tfsnap").is_symlink()
    assert names(tmp_path) == ["1.tfsnap", "latest.tfsnap"]


def test_links_that_lead_nowhere(tmp_path):
    (tmp_path / "x.tfsnap").symlink_to(tmp_path / "folder")
    with pytest.raises(ExportError, match=r"x.tfsnap is a link to .*folder, and only one of the"):
        publish(tmp_path / "x.tfsnap", "new")
    (tmp_path / "circle").symlink_to(tmp_path / "circle")
    with pytest.raises(ExportError, match=r"circle cannot be written \(Too many levels of"):
        publish(tmp_path / "circle", "new")
    assert names(tmp_path) == ["circle", "x.tfsnap"]


@pytest.mark.parametrize("output", ["", ".", ".."])
def test_an_output_without_a_name(tmp_path, monkeypatch, output):
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    with pytest.raises(ExportError, match="--output is empty or names no bundle .*: give a name"):
        publish(pathlib.Path(output), "new")


def test_two_exports_to_one_file_do_not_meet(tmp_path, monkeypatch):
    output, write = tmp_path / "b.tfsnap", publish_module.write_archive

    def write_and_let_another_export_end(folder, path):
        write(folder, path)
        monkeypatch.setattr(publish_module, "write_archive", write)
        publish(output, "second")
        assert names(tmp_path) == [folder.name, "b.tfsnap"]

    monkeypatch.setattr(publish_module, "write_archive", write_and_let_another_export_end)
    publish(output, "first")
    assert names(tmp_path) == ["b.tfsnap"]
    with zipfile.ZipFile(output) as archive:
        assert archive.namelist() == [MARKER]
        assert json.loads(archive.read(MARKER))["name"] == "first"


@pytest.mark.parametrize("name", ["b.tfsnap", "b[1].tfsnap"])
def test_killed_while_a_file_is_published(tmp_path, name):
    output = tmp_path / name
    publish(output, "old")
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    killed = subprocess.run([sys.executable, "-c", KILLED, str(output)], env=environment)
    assert killed.returncode == -signal.SIGKILL
    left = [path for path in tmp_path.iterdir() if path != output]
    assert [path.is_dir() for path in left] == [True]
    publish(output, "newer")
    assert names(tmp_path) == [name]


def test_a_full_disk_is_one_line_and_changes_nothing(tmp_path):
    publish(tmp_path / "bundle", "old")
    with (
        pytest.raises(ExportError, match=r"no space is left for .*bundle: free some"),
        published(tmp_path / "bundle") as folder,
    ):
        (folder / MARKER).write_text("new")
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    assert name_of(tmp_path / "bundle") == "old"
    assert names(tmp_path) == ["bundle"]


def test_a_full_device_is_a_full_disk(tmp_path):
    with pytest.raises(ExportError, match="no space"), published(tmp_path / "b") as folder:
        os.symlink("/dev/full", folder / "unet.tflite")
        (folder / "unet.tflite").write_bytes(b"x" * 10)
    assert names(tmp_path) == []


def test_shards_of_data_have_a_manifest_too_and_are_not_replaced(tmp_path):
    """The data sets and caches of `tfsnap.data.shards`."""
    output, rows = tmp_path / "latents", np.arange(4, dtype=np.int32)
    writer = ShardWriter(output, tables={"x": TableSpec("int32", ())}, rows=4, about={})
    writer.write(0, {"x": rows})
    writer.finish()
    before = {path.name: path.read_bytes() for path in output.iterdir()}
    assert MARKER in before
    with pytest.raises(ExportError, match="latents exists and is not a bundle; choose another"):
        publish(output, "new")
    assert {path.name: path.read_bytes() for path in output.iterdir()} == before


@pytest.mark.parametrize("other", ["beside.safetensors", "more/c.safetensors", "../c.safetensors"])
@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EACCES])
def test_what_happens_to_another_file_is_not_blamed_on_the_output(tmp_path, other, code):
    """Such as one that --calibration names."""
    path = str(tmp_path / other)
    with pytest.raises(OSError, match=other), published(tmp_path / "bundle"):
        raise OSError(code, os.strerror(code), path)
    assert names(tmp_path) == []


@pytest.mark.parametrize("place", ["unet.tflite", ""])
def test_what_happens_in_the_folder_is_about_the_output(tmp_path, place):
    with (
        pytest.raises(ExportError, match=r"bundle cannot be written \(Permission denied\); choose"),
        published(tmp_path / "bundle") as folder,
    ):
        raise OSError(errno.EACCES, os.strerror(errno.EACCES), str(folder / place))


def test_a_copy_that_finds_no_room_is_about_the_output(tmp_path):
    with pytest.raises(ExportError, match="no space"), published(tmp_path / "b") as folder:
        code, files = errno.ENOSPC, ("/there/merges.gz", str(folder / "merges.gz"))
        raise OSError(code, os.strerror(code), files[0], None, files[1])  # As `shutil` does.


@pytest.mark.skipif(not os.path.isdir("/proc"), reason="no /proc")
def test_a_folder_that_takes_no_files():
    told = r"^/proc/x cannot be written \(No such file or directory\); choose another --output$"
    with pytest.raises(ExportError, match=told):
        publish(pathlib.Path("/proc/x"), "new")


@pytest.mark.parametrize("place", ["file/bundle", "file/more/bundle"])
def test_an_output_that_cannot_be_written(tmp_path, place):
    (tmp_path / "file").write_text("")
    with pytest.raises(ExportError, match="cannot be written .*; choose another --output"):
        publish(tmp_path / place, "new")


def test_other_failures_keep_their_kind(tmp_path):
    with pytest.raises(FileNotFoundError), published(tmp_path / "b") as folder:
        (folder / "missing").read_bytes()
    assert names(tmp_path) == []
