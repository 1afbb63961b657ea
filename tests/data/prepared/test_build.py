"""Prepared sets from beginning to end, and what becomes of them when something goes wrong."""

import itertools
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from tests.data.prepared.sources import Listed, picture, png, write_folder
from tfsnap.data.prepared import growing
from tfsnap.data.prepared.build import prepare_set
from tfsnap.data.prepared.load import PreparedSet
from tfsnap.data.prepared.recipe import Recipe
from tfsnap.data.readers.entry import Entry, Skipped
from tfsnap.data.readers.folder import FolderReader
from tfsnap.data.shards import ShardError

ROOT = Path(__file__).parents[3]
RECIPE = Recipe(resolution=8, validation=0.3)


def entry(number, data=None, **changes):
    name, captions = f"{number:03d}.png", (f"picture {number}",)
    data = png(number, (8, 8)) if data is None else data
    return Entry(**{"name": name, "captions": captions, "read": lambda: data, **changes})


def entries(count):
    return [entry(number) for number in range(count)]


def files(folder):
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }


def forbidden():
    raise AssertionError("this picture must not be read again")


@pytest.fixture(autouse=True)
def _small_shards(monkeypatch):
    monkeypatch.setattr(growing, "_SHARD_ROWS", 4)


def test_every_picture_is_in_its_split_with_its_captions(tmp_path):
    report = prepare_set(Listed(entries(40)), tmp_path / "out", RECIPE)
    prepared = PreparedSet(tmp_path / "out")
    seen = {}
    for split in ("train", "validation"):
        examples = prepared.examples(split, caption_variants=1)
        assert len(examples) == report.pictures[split]
        for name, image, captions in zip(
            examples.keys, examples.images, examples.captions, strict=True
        ):
            number = int(name[:3])
            np.testing.assert_array_equal(image, picture(number, (8, 8)))
            assert captions == (f"picture {number}",)
            seen[number] = split
    assert len(seen) == 40
    assert 5 <= report.pictures["validation"] <= 19  # 12 expected.
    assert prepared.recipe == RECIPE


def test_splits_go_by_names_only(tmp_path):
    """A picture stays where it is whatever else there is."""
    prepare_set(Listed(entries(40)), tmp_path / "all", RECIPE)
    prepare_set(Listed(entries(40)[::-3]), tmp_path / "some", RECIPE)
    for split in ("train", "validation"):
        every = PreparedSet(tmp_path / "all").examples(split, caption_variants=1).keys
        some = PreparedSet(tmp_path / "some").examples(split, caption_variants=1).keys
        assert set(some) < set(every)


def test_what_cannot_be_used_is_counted_by_reason(tmp_path):
    def gone():
        raise FileNotFoundError("x")

    odd = [
        entry(100, b""),
        Skipped("a", "no caption"),
        entry(101, b"text"),
        entry(102, png(0)[:50]),
        entry(103, png(0, (100, 3))),
        entry(104, read=gone),
        *(entry(200 + n, b"") for n in range(7)),
    ]
    mixed = [one for pair in itertools.zip_longest(entries(20), odd) for one in pair if one]
    report = prepare_set(Listed(mixed), tmp_path, RECIPE)
    assert report.pictures.total() == 20
    assert json.loads((tmp_path / "report.json").read_text()) == report.to_dict()
    found = report.to_dict()["skipped"]
    assert {reason: one["count"] for reason, one in found.items()} == {
        "empty file": 8,
        "no caption": 1,
        "not a picture that can be read": 1,
        "damaged or truncated": 1,
        "too small": 1,
        "file cannot be read": 1,
    }
    first = ["100.png", "200.png", "201.png", "202.png", "203.png"]
    assert found["empty file"]["first"] == first
    assert f"         8 empty file: {', '.join(first)}, ..." in report.lines()
    keys = PreparedSet(tmp_path).examples("train+validation", caption_variants=1).keys
    assert set(keys) == {one.name for one in entries(20)}


def test_two_builds_are_the_same_bytes(tmp_path):
    write_folder(tmp_path / "in", 30, sizes=((40, 20), (20, 40), (9, 9)))
    for name, threads in (("a", 1), ("b", 7)):
        recipe = Recipe(resolution=32, validation=0.3, buckets=True, min_size=1)
        prepare_set(FolderReader(tmp_path / "in"), tmp_path / name, recipe, threads=threads)
    first = files(tmp_path / "a")
    assert first == files(tmp_path / "b")
    shapes = {Path(name).parent.name for name in first if name.endswith(".array_record")}
    assert shapes == {"24x40", "32x32", "40x24"}
    assert not any(str(tmp_path).encode() in content for content in first.values())


def test_a_finished_set_reads_no_picture_again(tmp_path):
    first = prepare_set(Listed(entries(20)), tmp_path, RECIPE)
    before = files(tmp_path)
    again = [entry(number, read=forbidden) for number in range(20)]
    assert prepare_set(Listed(again), tmp_path, RECIPE) == first
    assert files(tmp_path) == before


@pytest.mark.parametrize("damage", ["removed", "changed"])
def test_a_damaged_shard_is_made_again_and_no_other(tmp_path, damage):
    prepare_set(Listed(entries(40)), tmp_path, RECIPE)
    before = files(tmp_path)
    path = tmp_path / "train/8x8/shard-00001.array_record"
    path.unlink() if damage == "removed" else path.write_bytes(b"x" + path.read_bytes()[1:])
    lost = PreparedSet(tmp_path)._rows(["train"])[8, 8][4:8]
    lost = {row.line.name for row in lost}
    again = [one if one.name in lost else entry(int(one.name[:3]), read=forbidden)
             for one in entries(40)]  # fmt: skip
    prepare_set(Listed(again), tmp_path, RECIPE)
    assert files(tmp_path) == before


def test_a_run_that_fails_goes_on_where_it_stopped(tmp_path):
    """At every place where the reader may break; nothing whose shard is written is read again."""
    prepare_set(Listed(entries(20)), tmp_path / "whole", RECIPE)

    class Breaking(Listed):
        def __iter__(self):
            yield from self.entries
            raise OSError("the disk was pulled out")

    for stop in range(0, 20, 3):
        out = tmp_path / str(stop)
        with pytest.raises(OSError, match="pulled out"):
            prepare_set(Breaking(entries(stop)), out, RECIPE)
        assert not (out / "set.json").exists()
        with pytest.raises(ShardError, match="is not finished: run the tools/prepare_data.py"):
            PreparedSet(out)
        prepare_set(Listed(entries(20)), out, RECIPE)
        assert files(out) == files(tmp_path / "whole")


KILLED = """
import os, sys
from tfsnap.data.prepared import build, growing
from tfsnap.data.prepared.recipe import Recipe
from tfsnap.data.readers.folder import FolderReader
growing._SHARD_ROWS = 4
written, write = 0, growing.write_shard
def counted(*arguments, **options):
    global written
    if written == 3:
        (arguments[0] / f"shard-{arguments[1]:05d}.tmp").write_bytes(b"half of it")
        os._exit(9)  # As a kill does it: nothing is closed or flushed.
    write(*arguments, **options)
    written += 1
growing.write_shard = counted
build.prepare_set(FolderReader(sys.argv[1]), sys.argv[2], Recipe(resolution=8, validation=0.3))
"""


def test_a_killed_run_goes_on_where_it_stopped(tmp_path, monkeypatch):
    write_folder(tmp_path / "in", 40)
    reader = FolderReader(tmp_path / "in")
    prepare_set(reader, tmp_path / "whole", RECIPE)
    out = tmp_path / "out"
    command = [sys.executable, "-c", KILLED, str(tmp_path / "in"), str(out)]
    assert subprocess.run(command, cwd=ROOT, check=False).returncode == 9
    shards = {path for path in out.rglob("*.array_record")}
    assert len(shards) == 3 and not (out / "set.json").exists()
    written, write = [], growing.write_shard

    def counted(folder, shard, **options):
        written.append(folder / f"shard-{shard:05d}.array_record")
        write(folder, shard, **options)

    monkeypatch.setattr(growing, "write_shard", counted)
    prepare_set(reader, out, RECIPE)
    assert written and not shards & set(written)
    assert files(out) == files(tmp_path / "whole")


def test_a_line_that_was_cut_short_is_written_again(tmp_path):
    """What is left of the journal where the power went: any number of whole lines and a part."""
    prepare_set(Listed(entries(20)), tmp_path / "whole", RECIPE)
    lines = (tmp_path / "whole" / "captions.jsonl").read_bytes()
    for size in (0, 1, 100, len(lines) // 2, len(lines) - 1):
        out = tmp_path / str(size)
        prepare_set(Listed(entries(20)), out, RECIPE)
        for name in ("set.json", "report.json", "train", "validation"):
            path = out / name
            path.rename(tmp_path / f"{size}-{name}")
        (out / "captions.jsonl").write_bytes(lines[:size])
        prepare_set(Listed(entries(20)), out, RECIPE)
        assert files(out) == files(tmp_path / "whole")


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        (entries(19), "'019.png' is not there any more"),
        (entries(21), "'020.png' is new"),
        (entries(20)[::-1], "where '000.png' was is '019.png'"),
        ([entry(0, captions=("other",)), *entries(20)[1:]], "'000.png' has other captions"),
        ([entry(0, group="cats"), *entries(20)[1:]], "'000.png' has other captions, or another gr"),
        ([Skipped("000.png", "no caption"), *entries(20)[1:]], "'000.png' was used, or skipped"),
    ],
)
def test_pictures_that_have_changed_are_an_error(tmp_path, changed, message):
    prepare_set(Listed(entries(20)), tmp_path, RECIPE)
    before = files(tmp_path)
    with pytest.raises(ShardError, match=f"{message}.*Choose another --output"):
        prepare_set(Listed(changed), tmp_path, RECIPE)
    assert files(tmp_path) == before


def test_a_picture_with_other_content_cannot_fill_its_place(tmp_path):
    recipe = Recipe(resolution=32, validation=0.3, buckets=True, min_size=1)
    prepare_set(Listed(entries(20)), tmp_path, recipe)
    for path in tmp_path.rglob("*.array_record"):
        path.unlink()
    wide = [entry(n, png(n, (40, 10))) for n in range(20)]
    with pytest.raises(ShardError, match=r"'000.png' is another picture"):
        prepare_set(Listed(wide), tmp_path, recipe)


def test_a_folder_of_something_else_is_refused(tmp_path):
    prepare_set(Listed(entries(20)), tmp_path / "out", RECIPE)
    with pytest.raises(ShardError, match=r"begun otherwise: recipe.resolution was 8, is 16"):
        prepare_set(Listed(entries(20)), tmp_path / "out", RECIPE.replace(resolution=16))
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.doc").touch()
    with pytest.raises(ShardError, match="holds something else: --output must be a new folder"):
        prepare_set(Listed(entries(20)), tmp_path / "mine", RECIPE)
    assert [path.name for path in (tmp_path / "mine").iterdir()] == ["thesis.doc"]


def test_two_runs_do_not_write_one_set(tmp_path):
    class Nested(Listed):
        def __iter__(self):
            with pytest.raises(ShardError, match="written by another process"):
                prepare_set(Listed(entries(20)), tmp_path, RECIPE)
            return iter(self.entries)

    prepare_set(Nested(entries(20)), tmp_path, RECIPE)


def test_nothing_usable_is_one_error_and_the_next_try_is_free(tmp_path):
    out = tmp_path / "out"
    bad = [entry(1, b""), Skipped("b.jpg", "no caption"), Skipped("c.jpg", "no caption")]
    with pytest.raises(ShardError, match="the list: none of 3 can be used") as raised:
        prepare_set(Listed(bad), out, RECIPE)
    assert "2 no caption: b.jpg, c.jpg" in str(raised.value)
    with pytest.raises(ShardError, match="the list: no pictures are here"):
        prepare_set(Listed([]), out, RECIPE)
    with pytest.raises(ShardError, match="none of the 1 pictures in the list fell into 'valid"):
        prepare_set(Listed(entries(1)), out, RECIPE.replace(validation=0.0001))
    prepare_set(Listed(entries(20)), out, RECIPE)


def test_a_full_disk_leaves_what_is_written(tmp_path, monkeypatch):
    write, count = growing.write_shard, itertools.count()

    def full(*arguments, **options):
        if next(count) == 2:
            raise OSError("No space left on device")
        write(*arguments, **options)

    with monkeypatch.context() as patch:
        patch.setattr(growing, "write_shard", full)
        with pytest.raises(OSError, match="No space left"):
            prepare_set(Listed(entries(40)), tmp_path / "a", RECIPE)
    assert len(list((tmp_path / "a").rglob("*.array_record"))) == 2
    prepare_set(Listed(entries(40)), tmp_path / "a", RECIPE)
    prepare_set(Listed(entries(40)), tmp_path / "b", RECIPE)
    assert files(tmp_path / "a") == files(tmp_path / "b")


def test_progress_ends_with_everything(tmp_path):
    class Unknown(Listed):
        def __init__(self, listed):
            super().__init__(listed)
            self.total = None

    calls = {"known": [], "unknown": []}
    for name, kind in (("known", Listed), ("unknown", Unknown)):
        reader, show = kind(entries(20)), calls[name].append
        prepare_set(reader, tmp_path / name, RECIPE, progress=lambda *call, show=show: show(call))
        assert [done for done, _ in calls[name]] == [*range(1, 21), 20]
        assert calls[name][-1] == (20, 20)
        assert calls[name][4] == (5, reader.total)


def test_few_pictures_are_held_at_a_time(tmp_path):
    """Readers run ahead of the decoding by a few pictures for each thread, however many follow."""
    ahead, done = [], []

    def many():
        for number in range(300):
            ahead.append(number - len(done))
            yield entry(number)

    reader = Listed([])
    reader.__class__ = type("Many", (Listed,), {"__iter__": lambda self: many()})
    prepare_set(reader, tmp_path, RECIPE, threads=2, progress=lambda *call: done.append(call))
    assert max(ahead) <= 2 * 8 + 1


@pytest.mark.parametrize(
    ("field", "value"), [("resolution", 4), ("validation", 0.0), ("validation", 1.0),
                         ("min_size", -1), ("bucket_step", -8)],
)  # fmt: skip
def test_recipes_out_of_range(field, value):
    with pytest.raises(ValueError, match=f"Recipe.{field} is {value}; it must be"):
        Recipe(**{field: value})


def test_pictures_below_half_the_resolution_are_too_small_unless_asked_for(tmp_path):
    mixed = [*entries(20), entry(50, png(1, (3, 9)))]
    assert prepare_set(Listed(mixed), tmp_path / "a", RECIPE).skipped == {"too small": 1}
    all_of_them = RECIPE.replace(min_size=1)
    assert prepare_set(Listed(mixed), tmp_path / "b", all_of_them).pictures.total() == 21
