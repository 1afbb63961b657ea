"""Files appear whole or not at all."""

import errno
import json
import os
import pathlib
import subprocess
import sys

import pytest
from PIL import Image

from tfsnap.config import write_json
from tfsnap.runtime import RequestError
from tfsnap.runtime.output import read_picture, require_writable, write, write_picture


def test_a_full_disk_leaves_the_earlier_file(tmp_path, monkeypatch):
    path = tmp_path / "x.json"
    write(path, b"earlier")

    def fail(self, content):
        self.touch()
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(pathlib.Path, "write_bytes", fail)
    with pytest.raises(RequestError, match=r"Cannot write .*x\.json: No space left on device"):
        write(path, b"later")
    assert path.read_text() == "earlier"
    assert list(tmp_path.iterdir()) == [path]


def test_a_report_through_a_link_and_to_a_device(tmp_path):
    file, link = tmp_path / "there.json", tmp_path / "x.json"
    link.symlink_to(file)
    write_json(link, {"a": 1})
    assert link.is_symlink() and json.loads(file.read_text()) == {"a": 1}
    null = tmp_path / "null"
    null.symlink_to("/dev/null")
    write_json(null, {})
    assert null.is_symlink() and pathlib.Path("/dev/null").is_char_device()


def test_a_link_stays_and_a_device_is_written_to(tmp_path):
    file, link = tmp_path / "there.json", tmp_path / "x.json"
    link.symlink_to(file)
    for content in (b"first", b"second"):
        write(link, content)
        assert link.is_symlink() and file.read_bytes() == content
    null = tmp_path / "null"
    null.symlink_to("/dev/null")
    write(null, b"gone")
    assert null.is_symlink() and pathlib.Path("/dev/null").is_char_device()


@pytest.mark.parametrize("check", [lambda path: None, require_writable])
def test_a_pipe_is_written_to(check):
    """`--json=/dev/stdout` and `--json=>(jq .)`: links to what has no name in any folder."""
    reading, writing = os.pipe()
    path = pathlib.Path(f"/dev/fd/{writing}")
    check(path)
    write(path, b"told")
    os.close(writing)
    with open(reading, "rb") as pipe:
        assert pipe.read() == b"told"


@pytest.mark.parametrize("how", [">", ">>"])
def test_what_else_is_printed_into_the_same_file_stays(tmp_path, how):
    """`--json=/dev/stdout > out.txt`: a file, and one that the shell holds open."""
    code = (
        "import pathlib; from tfsnap.config import write_json; "
        "from tfsnap.runtime.output import require_writable; "
        "path = pathlib.Path('x'); require_writable(path); "
        "print('first', flush=True); write_json(path, 1); print('last')"
    )
    (tmp_path / "x").symlink_to("/dev/stdout")
    file = tmp_path / "out.txt"
    file.write_text("earlier\n")
    shell = ["sh", "-c", f'"$0" -c "$1" {how} out.txt', sys.executable, code]
    paths = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    subprocess.run(shell, cwd=tmp_path, env=paths, check=True)
    assert file.read_text() == ("" if how == ">" else "earlier\n") + "first\n1\nlast\n"


@pytest.mark.skipif(not os.path.isdir("/proc"), reason="no /proc")
def test_a_file_that_another_process_writes_to_is_appended_to(tmp_path):
    file = tmp_path / "out.txt"
    with file.open("wb") as held:
        held.write(b"first ")
        held.flush()
        with subprocess.Popen(["cat"], stdin=subprocess.PIPE, stdout=held) as other:
            write(pathlib.Path(f"/proc/{other.pid}/fd/1"), b"told")
        assert file.read_bytes() == b"first told"
        assert os.path.samestat(os.fstat(held.fileno()), file.stat())


def test_a_device_needs_no_writable_folder(monkeypatch):
    monkeypatch.setattr("os.access", lambda path, mode: str(path) == "/dev/null")
    require_writable(pathlib.Path("/dev/null"))
    with pytest.raises(RequestError, match="Cannot write /dev/zero: it is read-only"):
        require_writable(pathlib.Path("/dev/zero"))


@pytest.mark.skipif(not os.path.isdir("/proc"), reason="no /proc")
def test_a_folder_that_takes_no_files_is_found_out(tmp_path):
    """Whatever its permissions say."""
    with pytest.raises(RequestError, match="Cannot write /proc/x.json: No such file or directory"):
        require_writable(pathlib.Path("/proc/x.json"))
    require_writable(tmp_path / "x.json")
    assert list(tmp_path.iterdir()) == []


def test_a_name_is_as_long_as_a_file_may_have(tmp_path):
    path = tmp_path / ("é" * 125 + ".json")  # 255 bytes.
    require_writable(path)
    write(path, b"x")
    assert list(tmp_path.iterdir()) == [path]
    with pytest.raises(RequestError, match="Cannot write .*: File name too long"):
        require_writable(tmp_path / f"e{path.name}")


def test_a_link_is_followed_before_the_work(tmp_path):
    link = tmp_path / "x.json"
    link.symlink_to(tmp_path / "gone" / "x.json")
    with pytest.raises(RequestError, match=r"Cannot write .*x\.json: there is no folder .*gone"):
        require_writable(link)
    link.unlink()
    link.symlink_to(link)
    with pytest.raises(RequestError, match="Too many levels of symbolic links"):
        require_writable(link)


def test_processes_do_not_share_a_temporary_file(tmp_path, monkeypatch):
    """Else each could rename what the other has half written."""
    names, write_bytes = set(), pathlib.Path.write_bytes

    def spy(self, content):
        names.add(self.name)
        return write_bytes(self, content)

    monkeypatch.setattr(pathlib.Path, "write_bytes", spy)
    for process in (7, 8):
        monkeypatch.setattr("os.getpid", lambda process=process: process)
        write(tmp_path / "x.json", b"x")
    assert len(names) == 2


def test_a_folder_that_vanished(tmp_path):
    with pytest.raises(RequestError, match="No such file or directory"):
        write(tmp_path / "gone" / "x", b"")


def test_a_read_only_folder(tmp_path, monkeypatch):
    monkeypatch.setattr("os.access", lambda path, mode: False)
    with pytest.raises(RequestError, match="is read-only"):
        require_writable(tmp_path / "x.png")


@pytest.mark.parametrize("suffix", ["png", "JPG", "webp"])
def test_the_name_chooses_the_format(tmp_path, suffix):
    path = tmp_path / f"x.{suffix}"
    write_picture(path, Image.new("RGB", (8, 8), "red"))
    assert Image.open(path).format == {"JPG": "JPEG"}.get(suffix, suffix.upper())


@pytest.mark.parametrize(("suffix", "side"), [("webp", 16384), ("jpg", 65501), ("gif", 65536)])
def test_a_picture_that_its_format_cannot_hold(tmp_path, suffix, side):
    """A grid of very many pictures."""
    with pytest.raises(RequestError, match=rf"does not take 1 x {side} pixels .*: name a \.png"):
        write_picture(tmp_path / f"x.{suffix}", Image.new("RGB", (1, side)))
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("error", [RuntimeError, NotImplementedError, SyntaxError, EOFError])
def test_a_damaged_picture_is_one_line(tmp_path, monkeypatch, error):
    """Which of these it is depends on the format and on where the damage is."""
    Image.new("RGB", (8, 8)).save(tmp_path / "x.png")

    def fail(self):
        raise error("Failed to decode image:\nMissing or empty image item")

    monkeypatch.setattr("PIL.PngImagePlugin.PngImageFile.load", fail)
    with pytest.raises(RequestError, match=r"x\.png: Failed to decode image:; Missing or empty"):
        read_picture(tmp_path / "x.png")
