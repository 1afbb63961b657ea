"""TFDS data sets of all forms, built here; nothing is downloaded."""

import io

import numpy as np
import pytest
import tensorflow_datasets as tfds
from PIL import Image

from tests.data.prepared.sources import picture, png
from tfsnap.data.prepared.build import prepare_set
from tfsnap.data.prepared.load import PreparedSet
from tfsnap.data.prepared.recipe import Recipe
from tfsnap.data.readers.entry import Entry
from tfsnap.data.readers.tfds_set import TfdsReader

SIZE = (12, 10)


class Tiny(tfds.core.GeneratorBasedBuilder):
    """Six pictures, four of them for training."""

    VERSION = tfds.core.Version("1.0.0")
    skip_registering = True  # The subclasses are.

    def _info(self):
        return self.dataset_info_from_configs(features=tfds.features.FeaturesDict(self.features()))

    def _split_generators(self, dl_manager):
        return {
            "train": self._generate_examples(range(4)),
            "test": self._generate_examples(range(4, 6)),
        }

    def _generate_examples(self, numbers):
        for number in numbers:
            yield number, self.example(number)


class TinyCocoCaptions(Tiny):
    """The features of coco_captions."""

    def features(self):
        text = tfds.features.Text()
        return {
            "image": tfds.features.Image(encoding_format="png"),
            "image/filename": text,
            "image/id": np.int64,
            "captions": tfds.features.Sequence({"id": np.int64, "text": np.str_}),
            "objects": tfds.features.Sequence(
                {"label": tfds.features.ClassLabel(num_classes=3), "is_crowd": np.bool_}
            ),
        }

    def example(self, number):
        texts = [f"caption {part} of {number}" for part in range(number)]
        return {
            "image": io.BytesIO(png(number, SIZE)),
            "image/filename": f"{number}.jpg",
            "image/id": number,
            "captions": [{"id": 7, "text": text} for text in texts],
            "objects": [{"label": 1, "is_crowd": False}],
        }


class TinyNested(Tiny):
    """A picture deep inside, two texts, a label."""

    def features(self):
        text = tfds.features.Text()
        return {
            "inner": {"picture": tfds.features.Image(encoding_format="png"), "prompt": text},
            "title": text,
            "label": tfds.features.ClassLabel(names=["cat", "dog"]),
            "frames": tfds.features.Sequence(tfds.features.Image(shape=(1, 1, 3))),
        }

    def example(self, number):
        return {
            "inner": {"picture": io.BytesIO(png(number, SIZE)), "prompt": f"prompt {number}"},
            "title": f"title {number}",
            "label": number % 2,
            "frames": [],
        }


class TinyTwoImages(Tiny):
    """Which picture is meant?"""

    def features(self):
        image = tfds.features.Image(shape=(None, None, 3))
        return {"left": image, "right": image, "text": tfds.features.Text()}


class TinyNoText(Tiny):
    def features(self):
        return {"image": tfds.features.Image(), "label": tfds.features.ClassLabel(num_classes=2)}


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory):
    return tmp_path_factory.mktemp("tfds")


@pytest.fixture(autouse=True)
def _quiet():
    tfds.disable_progress_bar()
    yield
    tfds.enable_progress_bar()


def read(path, data_dir, **features):
    return list(TfdsReader(path, data_dir=data_dir, **features))


def test_coco_captions(data_dir):
    reader = TfdsReader("tiny_coco_captions", data_dir=data_dir)
    assert reader.total == 4
    found = list(reader)
    assert len({one.name for one in found}) == 4
    numbers = []
    for one in found:
        if isinstance(one, Entry):
            numbers.append(int(one.captions[0].split()[-1]))
            assert one.captions == tuple(
                f"caption {p} of {numbers[-1]}" for p in range(numbers[-1])
            )
            pixels = np.asarray(Image.open(io.BytesIO(one.read())))
            np.testing.assert_array_equal(pixels, picture(numbers[-1], SIZE))
        else:
            assert one.reason == "no caption"  # Picture 0 has none.
    assert sorted(numbers) == [1, 2, 3]
    assert [one.name for one in found] == [one.name for one in reader]
    (entry, *_) = [one for one in found if isinstance(one, Entry)]
    assert entry.name.startswith("train/00000/00000")


def test_splits(data_dir):
    assert len(read("tiny_coco_captions:test", data_dir)) == 2
    names = [one.name for one in read("tiny_coco_captions:train+test", data_dir)]
    assert [name.split("/")[0] for name in names] == ["train"] * 4 + ["test"] * 2
    with pytest.raises(ValueError, match=r"no split 'val'; it has test, train: --path=tiny_coco"):
        read("tiny_coco_captions:val", data_dir)


def test_a_folder_of_tfds(data_dir):
    TfdsReader("tiny_coco_captions", data_dir=data_dir)
    folder = data_dir / "tiny_coco_captions" / "1.0.0"
    assert len(read(f"{folder}:test", None)) == 2


def test_features_that_are_named(data_dir):
    with pytest.raises(ValueError, match="--caption_feature must say which of inner/prompt, title"):
        read("tiny_nested", data_dir)
    titles = read("tiny_nested", data_dir, caption_feature="title")
    assert sorted(one.captions for one in titles) == [(f"title {n}",) for n in range(4)]
    for one in read("tiny_nested", data_dir, caption_feature="inner/prompt"):
        number = int(one.captions[0].split()[-1])
        pixels = np.asarray(Image.open(io.BytesIO(one.read())))
        np.testing.assert_array_equal(pixels, picture(number, SIZE))
    labels = read("tiny_nested", data_dir, caption_feature="label")
    assert sorted(one.captions for one in labels) == [("cat",)] * 2 + [("dog",)] * 2
    with pytest.raises(ValueError, match="image_feature is 'frames'; it must be one of inner/pict"):
        read("tiny_nested", data_dir, image_feature="frames")


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("tiny_two_images", "--image_feature must say which of left, right is meant"),
        ("tiny_no_text", "can be the caption_feature; its features are image, label"),
        ("tiny_coco_caption", "path is 'tiny_coco_caption', .* did you mean .*tiny_coco_captions"),
        ("qqqqqqq", "which TFDS does not know: see tensorflow.org/datasets"),
    ],
)
def test_what_cannot_be_read_is_named(data_dir, path, message):
    with pytest.raises(ValueError, match=message):
        read(path, data_dir)


def test_a_damaged_file_costs_no_other(data_dir, tmp_path):
    TfdsReader("tiny_coco_captions", data_dir=data_dir)
    folder = tmp_path / "damaged"
    folder.mkdir()
    for path in (data_dir / "tiny_coco_captions" / "1.0.0").iterdir():
        content = bytearray(path.read_bytes())
        if "train.tfrecord" in path.name:
            content[len(content) // 2] ^= 255
        (folder / path.name).write_bytes(content)
    found = read(f"{folder}:train+test", None)
    assert [(one.name, one.reason) for one in found if not isinstance(one, Entry)][-1] == (
        "train/00000",
        "records cannot be read",
    )
    assert sum(one.name.startswith("test") for one in found) == 2


def test_a_prepared_set_of_tfds(data_dir, tmp_path):
    reader = TfdsReader("tiny_coco_captions:train+test", data_dir=data_dir)
    prepare_set(reader, tmp_path, Recipe(resolution=8, validation=0.5))
    examples = PreparedSet(tmp_path).examples("train+validation", caption_variants=5)
    assert sorted(captions[-1] for captions in examples.captions) == [
        "caption 0 of 1",
        "caption 0 of 2",
        "caption 0 of 4",
        "caption 1 of 3",
        "caption 4 of 5",
    ]
