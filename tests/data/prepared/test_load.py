import json

import numpy as np
import pytest
import tensorflow as tf

from tests.data.prepared.sources import Listed, picture, png
from tfsnap.data.augment import AugmentConfig
from tfsnap.data.examples import Subset, load_examples
from tfsnap.data.prepared import growing, load
from tfsnap.data.prepared.build import prepare_set
from tfsnap.data.prepared.load import PreparedSet, cycled
from tfsnap.data.prepared.recipe import Recipe
from tfsnap.data.readers.entry import Entry
from tfsnap.data.shards import ShardError
from tfsnap.data.shuffle import sampling_index
from tfsnap.data.source import BatchSource
from tfsnap.data.tables import StoredTable
from tfsnap.training.jobs.inputs import DataConfig

COUNT, SIDE = 30, 8
BOTH = "train+validation"
SHAPES = {(24, 40): (40, 24), (32, 32): (32, 32)}  # Shape of a bucket: width, height of a picture.


def entry(number, size=(SIDE, SIDE)):
    captions = tuple(f"{word} {number}" for word in ("picture", "photo", "image")[: 1 + number % 3])
    group = ("cats", "dogs")[number % 5 == 0]
    return Entry(f"{number:03d}", captions, lambda: png(number, size), group)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("set")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(growing, "_SHARD_ROWS", 4)
        entries = [entry(number) for number in range(COUNT)]
        prepare_set(Listed(entries), path, Recipe(resolution=SIDE, validation=0.3))
    return str(path)


@pytest.fixture(scope="module")
def buckets(tmp_path_factory):
    path = tmp_path_factory.mktemp("buckets")
    sizes = [SHAPES[24, 40], SHAPES[32, 32], SHAPES[24, 40]]
    entries = [entry(number, sizes[number % 3]) for number in range(COUNT)]
    prepare_set(Listed(entries), path, Recipe(resolution=32, buckets=True, validation=0.3))
    return str(path)


@pytest.fixture(params=["in memory", "on disk"])
def where(request, monkeypatch):
    if request.param == "on disk":
        monkeypatch.setattr(load, "_IN_MEMORY", 0)
    return request.param


def test_it_is_loaded_as_emoji_are(folder, where):
    data = DataConfig(dataset=folder, resolution=SIDE, caption_variants=4)
    examples = data.load(BOTH)
    assert isinstance(examples.images, StoredTable) == (where == "on disk")
    assert examples.images.shape == (COUNT, SIDE, SIDE, 3) and examples.images.dtype == np.uint8
    assert sorted(examples.keys) == [f"{number:03d}" for number in range(COUNT)]
    assert examples.group_names == ("cats", "dogs")
    for key, group, captions, image in zip(
        examples.keys, examples.groups, examples.captions, examples.images[:], strict=True
    ):
        number = int(key)
        np.testing.assert_array_equal(image, picture(number, (SIDE, SIDE)))
        assert group == (number % 5 == 0)
        words = ("picture", "photo", "image")[: 1 + number % 3]
        assert captions == cycled(tuple(f"{word} {number}" for word in words), 4)
    assert examples.groups.dtype == np.int32
    np.testing.assert_array_equal(examples.images[3:9:2], examples.images[:][3:9:2])


def test_splits_make_up_the_whole(folder, where):
    parts = [load_examples(dataset=folder, split=s, resolution=SIDE) for s in BOTH.split("+")]
    whole = load_examples(dataset=folder, split=BOTH, resolution=SIDE)
    assert sorted(parts[0].keys + parts[1].keys) == sorted(whole.keys)
    assert all(len(part) for part in parts)


def test_some_groups(folder, where):
    dogs = load_examples(
        dataset=folder, split=BOTH, resolution=SIDE, subset=Subset(groups=("dogs",))
    )
    assert sorted(dogs.keys) == [f"{number:03d}" for number in range(0, COUNT, 5)]
    for key, image in zip(dogs.keys, dogs.images[:], strict=True):
        np.testing.assert_array_equal(image, picture(int(key), (SIDE, SIDE)))


def test_batches_are_resampled_and_augmented(folder, where):
    data = DataConfig(dataset=folder, resolution=SIDE, resample=1.0)
    examples = data.load(BOTH)
    index = data.index(examples, 0)
    shares = np.bincount(examples.groups[index]) / len(index)
    np.testing.assert_allclose(shares, 0.5)  # Of the pictures a fifth are dogs.
    source = BatchSource(
        tables={"image": examples.images},
        index=index,
        batch_size=4,
        seed=0,
        pictures=("image",),
        augment=AugmentConfig(translation=0.2, zoom=0.2),
    )
    batch = source.at(3)["image"]
    assert batch.shape == (4, SIDE, SIDE, 3) and batch.dtype == np.float32
    assert abs(batch - source.at(4)["image"]).max() > 0.1
    np.testing.assert_array_equal(batch, source.in_memory().at(3)["image"])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"split": "holdout"}, "split is 'holdout'; .* has train, validation"),
        ({"split": "train+test"}, "split is 'test'"),
        ({"resolution": 64}, "data.resolution is 64, but .* was prepared with --resolution=8"),
        ({"caption_variants": 0}, "caption_variants is 0; it must be at least 1"),
        ({"subset": Subset(groups=("dgos",))}, "the group 'dgos': there are 'dogs'"),
        ({"subset": Subset(labels=("dog",))}, "subset.labels is for emoji"),
        ({"dataset": "no/such/folder"}, "dataset is 'no/such/folder'; it must be one of emoji, or"),
    ],
)
def test_what_does_not_fit_is_named(folder, changes, message):
    with pytest.raises(ValueError, match=message):
        load_examples(**{"dataset": folder, "resolution": SIDE, **changes})


def test_a_set_that_was_changed_is_refused(folder, tmp_path):
    def copied(name, content):
        for path in (tmp_path / "set.json", tmp_path / "captions.jsonl", tmp_path / "recipe.json"):
            path.write_bytes((type(path)(folder) / path.name).read_bytes())
        (tmp_path / name).write_bytes(content)
        return str(tmp_path)

    captions = (tmp_path.__class__(folder) / "captions.jsonl").read_bytes()
    changed = copied("captions.jsonl", captions.replace(b"picture 7", b"picture 8"))
    with pytest.raises(ShardError, match="captions.jsonl was changed"):
        load_examples(dataset=changed, resolution=SIDE)
    with pytest.raises(ShardError, match="set.json is damaged"):
        load_examples(dataset=copied("set.json", b"{"), resolution=SIDE)
    with pytest.raises(ShardError, match="set.json is not"):
        other = json.dumps({"format": "other"}).encode()
        load_examples(dataset=copied("set.json", other), resolution=SIDE)


def test_pictures_of_several_shapes(buckets, where):
    with pytest.raises(ValueError, match="pictures of 2 shapes, from --buckets"):
        load_examples(dataset=buckets, resolution=32)
    by_shape = PreparedSet(buckets).buckets(BOTH, caption_variants=1)
    assert set(by_shape) == set(SHAPES)
    for shape, examples in by_shape.items():
        assert examples.images.shape == (len(examples), *shape, 3)
        for key, image in zip(examples.keys, examples.images[:], strict=True):
            np.testing.assert_array_equal(image, picture(int(key), SHAPES[shape]))


def test_pictures_of_every_shape_are_augmented(buckets):
    for shape, examples in PreparedSet(buckets).buckets(BOTH, caption_variants=1).items():
        source = BatchSource(
            tables={"image": examples.images},
            index=sampling_index(examples.groups, resample=0.0, seed=0),
            batch_size=2,
            seed=0,
            pictures=("image",),
            augment=AugmentConfig(translation=0.1),
        )
        assert source.at(0)["image"].shape == (2, *shape, 3)
        assert isinstance(source.batches().element_spec["image"], tf.TensorSpec)
