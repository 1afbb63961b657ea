import os

import pytest

from tests.data.prepared.sources import png, write_folder
from tfsnap.data.readers.entry import Entry, Skipped
from tfsnap.data.readers.folder import FolderReader


def found(reader):
    """(name, captions, group) of entries, (name, reason) of the rest."""
    return [
        (e.name, e.captions, e.group) if isinstance(e, Entry) else (e.name, e.reason)
        for e in reader
    ]


def test_pictures_with_texts_beside_them(tmp_path):
    write_folder(tmp_path, 4)
    (tmp_path / "cats" / "UPPER.JPG").write_bytes(b"x")
    (tmp_path / "notes.md").write_text("no picture")
    (tmp_path / ".hidden.png").write_bytes(b"x")
    (tmp_path / ".cache").mkdir()
    (tmp_path / ".cache" / "x.png").write_bytes(b"x")
    reader = FolderReader(tmp_path)
    assert reader.total == 5
    assert found(reader) == [
        ("000.png", ("picture 0", "the 0th"), "all"),
        ("003.png", ("picture 3", "the 3th"), "all"),
        ("cats/001.png", ("picture 1", "the 1th"), "cats"),
        ("cats/002.png", ("picture 2", "the 2th"), "cats"),
        ("cats/UPPER.JPG", "no caption"),
    ]
    assert [e.read() for e in reader if isinstance(e, Entry)] == [png(n) for n in (0, 3, 1, 2)]
    assert found(reader) == found(FolderReader(tmp_path))
    every = [e.name for e in reader.pictures()]  # With captions and without.
    assert every == ["000.png", "003.png", "cats/001.png", "cats/002.png", "cats/UPPER.JPG"]


def test_captions_that_are_of_no_use(tmp_path):
    for name, text in {"a": b"\xef\xbb\xbfwith a mark", "b": b"caf\xe9", "c": b" \n \n"}.items():
        (tmp_path / f"{name}.png").write_bytes(b"x")
        (tmp_path / f"{name}.txt").write_bytes(text)
    (tmp_path / "d.png").write_bytes(b"x")
    (tmp_path / "d.txt").mkdir()
    assert found(FolderReader(tmp_path)) == [
        ("a.png", ("with a mark",), "all"),
        ("b.png", "caption is not UTF-8"),
        ("c.png", "no caption"),
        ("d.png", "caption cannot be read"),
    ]


def test_names_that_are_not_utf8(tmp_path):
    name = os.fsencode(tmp_path) + b"/caf\xe9.png"
    with open(name, "wb") as file:
        file.write(png(0))
    with open(name[:-4] + b".txt", "wb") as file:
        file.write(b"coffee")
    (entry,) = FolderReader(tmp_path)
    assert entry.name == r"caf\udce9.png"
    assert entry.read() == png(0)


def test_links_that_go_round_end(tmp_path):
    write_folder(tmp_path / "in", 2)
    (tmp_path / "in" / "loop").symlink_to(tmp_path / "in")
    (tmp_path / "in" / "more").symlink_to(tmp_path / "elsewhere")
    write_folder(tmp_path / "elsewhere", 1)
    names = [entry.name for entry in FolderReader(tmp_path / "in")]
    assert names == ["000.png", "cats/001.png", "more/000.png"]


def test_a_file_that_goes_away_is_an_error_of_its_own(tmp_path):
    write_folder(tmp_path, 1)
    (entry,) = FolderReader(tmp_path)
    (tmp_path / "000.png").unlink()
    with pytest.raises(OSError, match="No such file"):
        entry.read()


def test_a_list_names_the_captions(tmp_path):
    write_folder(tmp_path, 3)
    (tmp_path / "odd suffix.picture").write_bytes(png(9))
    (tmp_path / "captions.csv").write_text(
        "file_name,caption,group\n"
        "./000.png,first,birds\n"
        f"{tmp_path}/cats/001.png,absolute,\n"
        "000.png,second,\n"
        "odd suffix.picture,odd,\n"
        "gone.png,lost,\n"
        "cats/002.png,,\n",
        encoding="utf-8-sig",
    )
    assert found(FolderReader(tmp_path)) == [
        ("captions.csv:7 (cats/002.png)", "no caption"),
        ("000.png", ("first", "second"), "birds"),
        ("cats/001.png", ("absolute",), "cats"),
        ("cats/002.png", ("picture 2", "the 2th"), "cats"),  # From the text beside it.
        ("gone.png", "listed, but not there"),
        ("odd suffix.picture", ("odd",), "all"),
    ]


def test_which_list(tmp_path):
    write_folder(tmp_path, 1)
    (tmp_path / "metadata.jsonl").write_text('{"file_name": "000.png", "text": "of HF"}\n')
    assert found(FolderReader(tmp_path)) == [("000.png", ("of HF",), "all")]
    (tmp_path / "captions.csv").write_text("file,text\n000.png,of CSV\n")
    with pytest.raises(ValueError, match=r"captions.csv and metadata.jsonl: .*--captions"):
        FolderReader(tmp_path)
    reader = FolderReader(tmp_path, captions=tmp_path / "captions.csv")
    assert found(reader) == [("000.png", ("of CSV",), "all")]


def test_what_is_no_folder(tmp_path):
    with pytest.raises(ValueError, match=r"path is '.*none'; it must be a folder of pictures"):
        FolderReader(tmp_path / "none")


def test_nothing_is_skipped_twice(tmp_path):
    (tmp_path / "x.heic").write_bytes(b"x")
    assert list(FolderReader(tmp_path)) == [Skipped("x.heic", "no caption")]
