"""Fetching, with programs in place of npm and pip that do as a registry would make them do."""

import hashlib
import os
import sys
import zipfile

import pytest

from tfsnap.data import fetch

CONTENT = b"tarball"
THING = fetch.Tarball("@scope/thing", "1.0.0", hashlib.sha256(CONTENT).hexdigest())
WRITES = "open('scope-thing-1.0.0.tgz', 'wb').write({!r})"
OFFLINE_NPM = "npm ERR! code ENOTFOUND\nnpm ERR! network request to https://x failed"


@pytest.fixture
def programs(tmp_path, monkeypatch):
    """Makes programs; no other is on the PATH."""
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", str(folder))

    def make(name, code):
        path = folder / name
        log = f"open({str(folder / 'calls')!r}, 'a').write(' '.join(sys.argv[1:]) + '\\n')"
        path.write_text(f"#!{sys.executable} -S\nimport sys\n{log}\n{code}\n", encoding="utf-8")
        path.chmod(0o755)
        return path

    make.calls = lambda: (folder / "calls").read_text(encoding="utf-8").splitlines()
    return make


def fails(message):
    return f"sys.exit({message!r})"


def complaint(call, **kwargs):
    with pytest.raises(fetch.FetchError) as raised:
        call(**kwargs)
    message = str(raised.value)
    assert "\n" not in message and len(message) < 400
    return message


def fetch_thing(data_dir):
    return fetch.fetch_tarball(THING, data_dir=data_dir)


def test_a_tarball_is_fetched_once(programs, tmp_path):
    programs("npm", WRITES.format(CONTENT))
    path = fetch_thing(tmp_path)
    assert path == tmp_path / "downloads" / "scope-thing-1.0.0.tgz"
    assert path.read_bytes() == CONTENT
    assert fetch_thing(tmp_path) == path
    assert programs.calls() == ["pack @scope/thing@1.0.0 --ignore-scripts --fetch-retries=1"]


def test_a_damaged_tarball_is_fetched_again(programs, tmp_path):
    programs("npm", WRITES.format(CONTENT))
    fetch_thing(tmp_path).write_bytes(CONTENT[:-1])
    assert fetch_thing(tmp_path).read_bytes() == CONTENT
    assert len(programs.calls()) == 2


def test_what_lies_there_needs_no_npm(programs, tmp_path):
    path = tmp_path / "downloads" / THING.file
    path.parent.mkdir()
    path.write_bytes(CONTENT)
    assert fetch_thing(tmp_path) == path


def test_npm_missing(programs, tmp_path):
    message = complaint(fetch_thing, data_dir=tmp_path)
    assert "npm" in message and "not on the PATH" in message and "apt-get install npm" in message
    assert f"put scope-thing-1.0.0.tgz into {tmp_path / 'downloads'}" in message


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        (fails(OFFLINE_NPM), "No connection to the registry to fetch @scope/thing@1.0.0"),
        (fails("npm error code EINTEGRITY\nnpm error sha512-..."), "arrived corrupt"),
        (fails("npm notice\nnpm error code E404\nnpm error 404"), "(npm error code E404)"),
        (fails("Segmentation fault"), "(Segmentation fault)"),
        ("sys.exit(3)", "(exit status 3)"),
        ("", "The registry sent no scope-thing-1.0.0.tgz"),
        (WRITES.format(b"something else"), "scope-thing-1.0.0.tgz is corrupt: its SHA-256 is"),
    ],
    ids=["offline", "integrity", "unknown", "crash", "silent", "nothing", "checksum"],
)
def test_failures_say_what_to_do_and_leave_nothing(programs, tmp_path, code, expected):
    programs("npm", code)
    message = complaint(fetch_thing, data_dir=tmp_path)
    assert expected in message
    assert "run again" in message and "or put scope-thing-1.0.0.tgz into" in message
    assert os.listdir(tmp_path / "downloads") == []
    programs("npm", WRITES.format(CONTENT))
    assert fetch_thing(tmp_path).read_bytes() == CONTENT  # As the message promised.


def test_a_data_dir_that_cannot_be_written(tmp_path):
    file = tmp_path / "file"
    file.write_text("not a folder", encoding="utf-8")
    message = complaint(fetch_thing, data_dir=file)
    assert f"Cannot write to {file / 'downloads'}" in message and "$TFSNAP_DATA" in message


@pytest.fixture
def pip(programs, tmp_path, monkeypatch):
    """Takes the place of this interpreter, which runs pip; it "downloads" what is made here."""

    def make(members=None):
        wheel = tmp_path / "open_clip_torch.whl"
        if members is None:
            wheel.write_bytes(b"not a zip file")
        else:
            with zipfile.ZipFile(wheel, "w") as archive:
                for name, content in members.items():
                    archive.writestr(name, content)
        program = programs("pip", f"import shutil; shutil.copy({str(wheel)!r}, '.')")
        monkeypatch.setattr(sys, "executable", str(program))

    monkeypatch.setattr(fetch, "MERGES_SHA256", THING.sha256)
    return make


def test_merges_come_from_open_clips_wheel(pip, programs, tmp_path):
    pip({f"open_clip/{fetch.MERGES_FILE}": CONTENT})
    path = fetch.fetch_merges(data_dir=tmp_path)
    assert path.read_bytes() == CONTENT
    assert fetch.fetch_merges(data_dir=tmp_path) == path
    (call,) = programs.calls()
    assert call.startswith("-m pip download --no-deps") and call.endswith("open_clip_torch==3.3.0")


@pytest.mark.parametrize("members", [None, {"open_clip/other": CONTENT}], ids=["bytes", "member"])
def test_a_corrupt_wheel(pip, tmp_path, members):
    pip(members)
    message = complaint(fetch.fetch_merges, data_dir=tmp_path)
    assert "The wheel of open_clip_torch==3.3.0 is corrupt" in message and "run again" in message
    assert os.listdir(tmp_path / "downloads") == []


def test_merges_with_another_checksum(pip, tmp_path):
    pip({f"open_clip/{fetch.MERGES_FILE}": b"other merges"})
    message = complaint(fetch.fetch_merges, data_dir=tmp_path)
    assert f"{fetch.MERGES_FILE} is corrupt: its SHA-256 is" in message


def test_pip_offline(programs, tmp_path, monkeypatch):
    said = (
        "WARNING: Retrying: Failed to establish a new connection\nERROR: No matching distribution"
    )
    monkeypatch.setattr(sys, "executable", str(programs("pip", fails(said))))
    message = complaint(fetch.fetch_merges, data_dir=tmp_path)
    assert "No connection to the registry to fetch open_clip_torch==3.3.0" in message


def test_the_data_root_is_the_argument_the_variable_or_the_cache(monkeypatch, tmp_path):
    monkeypatch.setenv("TFSNAP_DATA", str(tmp_path / "variable"))
    assert fetch.data_root(tmp_path / "argument") == tmp_path / "argument"
    assert fetch.data_root() == tmp_path / "variable"
    monkeypatch.delenv("TFSNAP_DATA")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert fetch.data_root() == tmp_path / ".cache" / "tfsnap"
