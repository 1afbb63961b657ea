"""The TFDS builder, on toy packages: drawing all of the real ones takes too long for every test."""

import concurrent.futures

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_datasets as tfds

from tests.data.toy_packages import KEPT, TONED, make_packages
from tests.full_disk import full_disk
from tfsnap.data import emoji, fetch
from tfsnap.data.captions import STYLES
from tfsnap.data.catalogue import EMOJI_VERSION, read_catalogue
from tfsnap.data.examples import load_examples
from tfsnap.data.render import render

TOTAL = 4 * len(KEPT) + 2  # Two packages have the flag as well.


@pytest.fixture
def prepare_toys(monkeypatch):
    """Prepares the data set from given tarballs in place of npm's."""

    def prepare(packages, data_dir, **kwargs):
        monkeypatch.setattr(fetch, "fetch_tarball", lambda tarball, data_dir: packages[tarball])
        return emoji.prepare(resolution=8, data_dir=data_dir, **kwargs)

    return prepare


def records(builder):
    """The bytes of every record, by file."""
    files = sorted(path for path in builder.data_path.iterdir() if "tfrecord" in path.name)
    return {
        path.name: [bytes(r) for r in tf.data.TFRecordDataset(str(path)).as_numpy_iterator()]
        for path in files
    }


def test_builder_holds_every_picture_once(prepare_toys, toy_packages, tmp_path):
    reports = []
    builder = prepare_toys(
        toy_packages, tmp_path, progress=lambda done, total: reports.append((done, total))
    )
    assert reports == [(done, TOTAL) for done in range(1, TOTAL + 1)]
    assert set(builder.info.splits) == {"train", "validation", "holdout"}
    assert all(split.num_examples for split in builder.info.splits.values())

    loaded = load_examples(
        resolution=8, split="train+validation+holdout", data_dir=tmp_path, caption_variants=1
    )
    pictures = {p.key: p for p in read_catalogue(toy_packages)}
    assert loaded.keys == tuple(sorted(pictures))
    for i, key in enumerate(loaded.keys):
        drawn = render(pictures[key].drawing, resolution=8)
        np.testing.assert_array_equal(loaded.images[i], drawn, err_msg=key)


def test_features_say_what_the_packages_say(prepare_toys, toy_packages, tmp_path):
    builder = prepare_toys(toy_packages, tmp_path)
    dataset = builder.as_dataset(split="train+validation+holdout")
    code = f"{TONED[0]}-1f3ff"
    rows = [row for row in dataset.as_numpy_iterator() if row["code_point"].decode() == code]
    features = builder.info.features
    assert {features["style"].int2str(int(row["style"])) for row in rows} == set(STYLES)
    row = next(row for row in rows if row["style"] == STYLES.index("noto"))
    assert row["caption"].decode() == f"gesture {TONED[0]}, dark skin tone, noto style"
    assert row["label"].decode() == f"gesture {TONED[0]}"
    assert row["tags"].tolist() == [f"tag of gesture {TONED[0]}".encode()]
    assert row["tone"].decode() == "dark"
    assert features["group"].int2str(int(row["group"])) == "people-body"
    assert row["image"].shape == (8, 8, 3)


def test_same_packages_give_the_same_bytes(prepare_toys, toy_packages, tmp_path):
    """In whatever order the packages list their entries."""
    first = records(prepare_toys(toy_packages, tmp_path / "first"))
    folder = tmp_path / "backwards"
    folder.mkdir()
    second = records(prepare_toys(make_packages(folder, backwards=True), tmp_path / "second"))
    assert sum(map(len, first.values())) == TOTAL
    assert first == second
    # Equal in another process too: protobuf's own order of features changes with the process.
    for record in (record for shard in first.values() for record in shard):
        example = tf.train.Example.FromString(record)
        assert example.SerializeToString(deterministic=True) == record


def test_a_rerun_continues_after_a_failure_and_then_reuses(
    prepare_toys, toy_packages, tmp_path, monkeypatch
):
    def offline(tarball, data_dir):
        raise fetch.FetchError("No connection")

    with monkeypatch.context() as patch:
        patch.setattr(fetch, "fetch_tarball", offline)
        with pytest.raises(fetch.FetchError, match="^No connection$"):
            emoji.prepare(resolution=8, data_dir=tmp_path)
    assert prepare_toys(toy_packages, tmp_path).is_prepared()
    monkeypatch.setattr(fetch, "fetch_tarball", offline)
    assert emoji.prepare(resolution=8, data_dir=tmp_path).is_prepared()  # Nothing is fetched.


def test_a_full_disk_is_one_line_and_a_rerun_goes_on(prepare_toys, toy_packages, tmp_path):
    with full_disk(room=2000), pytest.raises(OSError, match="^Cannot draw the emoji: .*too large"):
        prepare_toys(toy_packages, tmp_path)
    assert prepare_toys(toy_packages, tmp_path).is_prepared()


def test_of_two_that_build_it_at_once_one_waits(prepare_toys, toy_packages, tmp_path, capfd):
    with concurrent.futures.ThreadPoolExecutor(2) as pool:
        builders = list(pool.map(lambda _: prepare_toys(toy_packages, tmp_path), range(2)))
    assert [builder.is_prepared() for builder in builders] == [True, True]
    counts = [{n: s.num_examples for n, s in b.info.splits.items()} for b in builders]
    assert counts[0] == counts[1] and sum(counts[0].values()) == TOTAL
    assert "Waiting for another process that holds" in capfd.readouterr().out


def test_tfds_finds_it_by_name_in_the_data_root(prepare_toys, toy_packages, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("TFSNAP_DATA", "~/data")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(emoji.Emoji, "builder_configs", {"8px": emoji.EmojiConfig(resolution=8)})
    prepared = prepare_toys(toy_packages, None)
    assert prepared.data_path == tmp_path / "data" / "emoji" / "8px" / EMOJI_VERSION
    monkeypatch.delattr(fetch, "fetch_tarball")  # Nothing is fetched again.
    dataset, info = tfds.load("emoji/8px", split="train", with_info=True)
    assert len(dataset) == info.splits["train"].num_examples == len(load_examples(resolution=8))


@pytest.mark.parametrize("resolution", [7, 1025])
def test_resolutions_out_of_range_are_named(resolution, tmp_path):
    with pytest.raises(ValueError, match=f"resolution is {resolution}; it must be from 8 to 1024"):
        emoji.prepare(resolution=resolution, data_dir=tmp_path)


def test_the_real_packages_are_drawn_as_counted(real_emoji):
    """The counts that the catalogue's documentation states."""
    styles = [style for part in real_emoji.values() for style in part.styles]
    assert {style: styles.count(style) for style in STYLES} == {
        "noto": 3_670,
        "twemoji": 3_932,
        "fluent flat": 3_127,
        "fluent 3d": 3_013,
    }
    assert len({label for part in real_emoji.values() for label in part.labels}) == 1_902
