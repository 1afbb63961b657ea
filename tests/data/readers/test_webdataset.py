import gzip
import json
import tarfile

import pytest

from tests.data.prepared.sources import example, png, write_tar
from tfsnap.data.readers import entry as entries
from tfsnap.data.readers.entry import Entry
from tfsnap.data.readers.webdataset import WebDatasetReader, expand

BLOCK = 512


def read(path):
    """The entries by name, and (name, reason) of what was skipped."""
    everything = list(WebDatasetReader(str(path)))
    used = {e.name: e for e in everything if isinstance(e, Entry)}
    skipped = [(e.name, e.reason) for e in everything if not isinstance(e, Entry)]
    assert len(used) + len(skipped) == len(everything)
    return used, skipped


def three(path, mode="w"):
    write_tar(path, {name: data for n in range(3) for name, data in example(n).items()}, mode)


@pytest.mark.parametrize(("suffix", "mode"), [(".tar", "w"), (".tar.gz", "w:gz"), (".tgz", "w:xz")])
def test_examples_come_in_their_order(tmp_path, suffix, mode):
    path = tmp_path / f"x{suffix}"
    three(path, mode)
    used, skipped = read(path)
    assert list(used) == [f"x{suffix}/000{n}.png" for n in range(3)] and not skipped
    for number, one in enumerate(used.values()):
        assert one.read() == png(number)
        assert one.captions == (f"picture {number}",)


def test_where_captions_are_found(tmp_path):
    path = tmp_path / "x.tar"
    members = {
        "d/a.b.c/1.png": png(1),
        "d/a.b.c/1.json": json.dumps({"caption": "from json", "url": "u"}).encode(),
        "2.json": json.dumps({"caption": "not this"}).encode(),
        "2.PNG": png(2),
        "2.txt": "\ufeffone\n\ntwo\n".encode(),
        "2.seg.npy": b"123",
        "3.png": png(3),
        "3.json": b"{broken",
        "4.txt": b"no picture",
        "5.png": png(5),
        "5.txt": b"  ",
        "5.json": json.dumps({"text": ["a", "b"]}).encode(),
        "2.jpg": b"again",
    }
    write_tar(path, members)
    used, skipped = read(path)
    assert {name: one.captions for name, one in used.items()} == {
        "x.tar/d/a.b.c/1.png": ("from json",),
        "x.tar/2.png": ("one", "two"),
        "x.tar/5.png": ("a", "b"),
    }
    assert skipped == [
        ("x.tar/3.png", "no caption"),
        ("x.tar/4", "no picture in the example"),
        ("x.tar/2", "name occurs twice in its tar"),
    ]


@pytest.mark.parametrize(
    ("block", "content", "damages"), [(0, b"@PaxHeader", 1), (1, b"mtime=", 0), (2, b"1.png", 1)]
)
def test_a_damaged_header_costs_one_example(tmp_path, block, content, damages):
    """At most: Python's own reader ends there, in silence or with an error."""
    path = tmp_path / "x.tar"
    write_tar(path, {f"{n}.{kind}": b"x" * 700 for n in range(4) for kind in ("png", "txt")})
    with tarfile.open(path) as archive:
        (member,) = [m for m in archive.getmembers() if m.name == "1.png"]
    place = member.offset + block * BLOCK
    data = bytearray(path.read_bytes())
    assert content in data[place : place + BLOCK]
    data[place : place + BLOCK] = b"\xff" * BLOCK
    path.write_bytes(data)
    used, skipped = read(path)
    assert {"x.tar/0.png", "x.tar/2.png", "x.tar/3.png"} <= set(used)
    damage = [name for name, reason in skipped if reason == "damaged or truncated tar"]
    assert len(damage) == damages and all(name.startswith("x.tar (") for name in damage)
    if block == 2:
        assert ("x.tar/1", "no picture in the example") in skipped


@pytest.mark.parametrize("part", [0.3, 0.5, 0.8])
@pytest.mark.parametrize("compressed", [False, True])
def test_of_a_truncated_tar_what_is_whole_is_used(tmp_path, part, compressed):
    for name in ("a.tar", "b.tar"):
        three(tmp_path / name)
    path = tmp_path / "a.tar"
    data = path.read_bytes()
    end = data.rindex(b"picture 2") + BLOCK  # Behind it is padding.
    data = gzip.compress(data[:end]) if compressed else data[:end]
    path.write_bytes(data[: int(part * len(data))])
    used, skipped = read(tmp_path / "*.tar")
    assert [name for name in used if name[0] == "b"] == [f"b.tar/000{n}.png" for n in range(3)]
    whole = [name for name in used if name[0] == "a"]
    assert whole == [f"a.tar/000{n}.png" for n in range(len(whole))] and len(whole) < 3
    assert [one.read() for one in used.values()][: len(whole)] == [
        png(n) for n in range(len(whole))
    ]
    assert "damaged or truncated tar" in {reason for _, reason in skipped}


def test_what_is_no_tar(tmp_path):
    (tmp_path / "a.tar").write_bytes(b"text" * 1000)
    (tmp_path / "b.tar").write_bytes(b"")
    three(tmp_path / "c.tar")
    used, skipped = read(tmp_path / "*.tar")
    assert len(used) == 3
    assert [name.split()[0] for name, _ in skipped] == ["a.tar", "b.tar"]
    assert {reason for _, reason in skipped} == {"damaged or truncated tar"}


def test_members_that_are_too_large_are_not_read(tmp_path, monkeypatch):
    monkeypatch.setattr(entries, "_MAX_BYTES", 1000)
    write_tar(tmp_path / "x.tar", {"1.png": b"x" * 1001, "1.txt": b"a", **example(2)})
    used, skipped = read(tmp_path / "x.tar")
    assert list(used) == ["x.tar/0002.png"]
    assert skipped == [("x.tar/1.png", "file too large")]


def test_patterns(tmp_path):
    for name in ("a-08", "a-09", "a-10", "b-08"):
        (tmp_path / f"{name}.tar").write_bytes(b"")
    root = str(tmp_path)
    assert expand(f"{root}/a-{{08..10}}.tar") == [f"{root}/a-{n}.tar" for n in ("08", "09", "10")]
    assert expand(f"{root}/{{b,a}}-08.tar") == [f"{root}/b-08.tar", f"{root}/a-08.tar"]
    assert expand(f"{root}/*-08.tar") == [f"{root}/a-08.tar", f"{root}/b-08.tar"]
    with pytest.raises(ValueError, match=r"2 of 5 tar files are not there, the first is '.*a-11"):
        expand(f"{root}/a-{{08..12}}.tar")
    with pytest.raises(ValueError, match="1 of 1 tar files"):
        expand(f"{root}/none*.tar")


def test_tars_of_several_folders_are_told_apart(tmp_path):
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        three(tmp_path / folder / "x.tar")
    used, _ = read(tmp_path / "*" / "x.tar")
    assert len(used) == 6 and "a/x.tar/0001.png" in used
