import pytest

from tfsnap.data.readers import entry
from tfsnap.data.readers.entry import UnusableError, read_file, storable, tidy_captions


@pytest.mark.parametrize(
    ("value", "captions"),
    [
        ("  a\n red  apple ", ("a red apple",)),
        (b"caf\xc3\xa9", ("café",)),
        (["a", "", "b", "a", None, 7], ("a", "b")),
        ({"caption": "", "text": "t", "id": 3}, ("t",)),
        ({"caption": ["a", "b"], "text": "t"}, ("a", "b")),
        ([{"id": 1, "text": "a"}, {"id": 2, "text": "b"}], ("a", "b")),
        ({"label": "x"}, ()),
        (None, ()),
        (3.5, ()),
        ("a\ud800b", (r"a\ud800b",)),
    ],
)
def test_captions_in_every_form(value, captions):
    assert tidy_captions(value) == captions


def test_names_that_utf8_cannot_hold():
    assert storable("a\udce9\0.jpg").encode() == rb"a\udce9.jpg"


def test_files_that_are_too_large_are_not_read(tmp_path, monkeypatch):
    path = tmp_path / "x.jpg"
    path.write_bytes(b"12345")
    assert read_file(path) == b"12345"
    monkeypatch.setattr(entry, "_MAX_BYTES", 4)
    with pytest.raises(UnusableError, match="file too large"):
        read_file(path)
