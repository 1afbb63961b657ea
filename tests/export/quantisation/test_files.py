import pathlib

import pytest

from tfsnap.export.quantisation.files import require_usable


def test_what_is_there_or_can_be_made(tmp_path):
    (tmp_path / "old").write_text("kept")
    for name in ("old", "new", "more/folders/new"):
        require_usable(tmp_path / name, "--calibration")
        require_usable(tmp_path / name, "--calibration", appended=True)
    assert [path.name for path in tmp_path.iterdir()] == ["old"]
    assert (tmp_path / "old").read_text() == "kept"


def test_a_relative_name(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    require_usable(pathlib.Path("c.safetensors"), "--calibration")


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("file/new", r"which cannot be used \(Not a directory\): give another file"),
        ("file/more/new", r"which cannot be used \(Not a directory\)"),
        ("x" * 300, r"which cannot be used \(File name too long\)"),
        ("", "a folder: give the name of a file in it"),
    ],
)
def test_what_cannot_be_used(tmp_path, name, why):
    (tmp_path / "file").write_text("")
    path = tmp_path / name
    with pytest.raises(ValueError, match=rf"--calibration is {path}, {why}"):
        require_usable(path, "--calibration")
