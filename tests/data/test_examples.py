import numpy as np
import pytest

from tests.data.toy_packages import HEART, KEPT, PLAIN, TONED
from tfsnap.data import emoji, fetch
from tfsnap.data.captions import STYLES, TONES
from tfsnap.data.catalogue import GROUPS
from tfsnap.data.examples import (
    Examples,
    Subset,
    load_examples,
    spread,
    tokenize_captions,
)

ALL = "train+validation+holdout"


@pytest.fixture(scope="module")
def load(toy_packages, tmp_path_factory):
    """`load_examples` of the toy data set."""
    data_dir = tmp_path_factory.mktemp("toys")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(fetch, "fetch_tarball", lambda tarball, data_dir: toy_packages[tarball])
        emoji.prepare(resolution=8, data_dir=data_dir)
    return lambda **kwargs: load_examples(**{"resolution": 8, "data_dir": data_dir, **kwargs})


def test_fields_belong_together(load):
    examples = load(split=ALL)
    n = len(examples)
    assert examples.images.shape == (n, 8, 8, 3) and examples.images.dtype == np.uint8
    assert examples.groups.shape == (n,) and examples.groups.dtype == np.int32
    assert examples.group_names == GROUPS
    assert list(examples.keys) == sorted(set(examples.keys))
    i = examples.keys.index(f"{TONED[1]}-1f3fb/fluent-3d")
    assert examples.labels[i] == f"gesture {TONED[1]}"
    assert (examples.styles[i], examples.tones[i]) == ("fluent 3d", "light")
    assert GROUPS[examples.groups[i]] == "people-body"
    assert examples.captions[i][0] == f"gesture {TONED[1]}, light skin tone, fluent 3d style"


def test_splits_are_disjoint_and_make_up_the_whole(load):
    parts = [load(split=split).keys for split in ALL.split("+")]
    assert sorted(key for part in parts for key in part) == list(load(split=ALL).keys)
    assert load().keys == parts[0]  # Train is the default.


def test_caption_variants_follow_the_seed(load):
    examples = load(caption_variants=20)
    assert {len(captions) for captions in examples.captions} == {20}
    assert load(caption_variants=20).captions == examples.captions
    other = load(caption_variants=20, seed=1).captions
    assert other != examples.captions
    assert [c[0] for c in other] == [c[0] for c in examples.captions]
    assert any("tag of" in caption for captions in examples.captions for caption in captions)


@pytest.mark.parametrize(
    ("subset", "count"),
    [
        (Subset(), 4 * len(KEPT) + 2),
        (Subset(labels=("red heart", f"gesture {TONED[0]}")), 4 + 4 * 6),
        (Subset(groups=("food-drink",)), 4 * len(PLAIN)),
        (Subset(styles=("noto", "fluent 3d")), 2 * len(KEPT) + 1),
        (Subset(tones=("", "dark")), 4 * (1 + len(PLAIN) + 2 * len(TONED)) + 2),
        (Subset(tones=("light+dark",), styles=("twemoji",)), 1),
    ],
    ids=["all", "labels", "groups", "styles", "tones", "two people"],
)
def test_subset_passes_what_meets_every_filter(load, subset, count):
    examples = load(split=ALL, subset=subset)
    assert len(examples) == count
    assert set(examples.styles) <= set(subset.styles or STYLES)
    assert set(examples.tones) <= set(subset.tones or ("", *TONES, "light+dark"))
    assert subset.labels is None or set(examples.labels) == set(subset.labels)


@pytest.mark.parametrize(
    ("subset", "message"),
    [
        (Subset(labels=("red hart",)), "label 'red hart': did you mean 'red heart'"),
        (Subset(labels=("red heart", "gestur 1f446")), "'gestur 1f446': did you mean 'gesture"),
        (Subset(styles=("Noto",)), "style 'Noto': did you mean 'noto'"),
        (Subset(tones=("drak",)), "tone 'drak': did you mean 'dark'"),
        (Subset(groups=("qqq",)), "group 'qqq': check the spelling"),
    ],
)
def test_unknown_names_are_named_with_their_like(load, subset, message):
    with pytest.raises(ValueError, match=message):
        load(subset=subset)


def test_a_name_of_another_split_is_no_error_but_an_empty_result_is(load):
    validation = load(split="validation")
    pair = Subset(labels=validation.labels[:1], styles=validation.styles[:1])
    assert load(split="validation", subset=pair).labels[0] == validation.labels[0]
    with pytest.raises(ValueError, match="No picture of the split 'train' is in Subset"):
        load(split="train", subset=pair)
    # Holdout has no heart, which has no tones; that is not a misspelling.
    both = Subset(labels=("red heart", f"gesture {TONED[0]}"))
    assert set(load(split="holdout", subset=both).labels) <= {f"gesture {TONED[0]}"}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"dataset": "photos"}, "dataset is 'photos'; it must be one of"),
        ({"split": "test"}, "split is 'test'; it must be one of"),
        ({"split": "train+test"}, "split is 'test'"),
        ({"caption_variants": 0}, "count of caption variants is 0"),
    ],
)
def test_arguments_out_of_range_are_named(load, arguments, message):
    with pytest.raises(ValueError, match=message):
        load(**arguments)


def test_subset_survives_json():
    subset = Subset(labels=("thumbs up",), tones=("", "dark"))
    assert Subset.from_dict(subset.to_dict()) == subset


@pytest.mark.parametrize(
    ("available", "count", "rows"),
    [(9, 3, [0, 4, 8]), (3, 3, [0, 1, 2]), (3, 5, [0, 1, 2, 0, 1]), (5, 1, [0])],
)
def test_some_examples_stand_for_all(available, count, rows):
    assert spread(available, count).tolist() == rows


def test_captions_are_tokenized_in_place():
    examples = Examples(
        images=np.zeros([2, 1, 1, 3], np.uint8),
        captions=(("a", "bb", "ccc"), ("dddd", "e", "ff")),
        groups=np.zeros(2, np.int32),
        group_names=("all",),
        keys=("x", "y"),
    )
    lengths = tokenize_captions(
        examples, lambda texts: np.array([[len(text), 0] for text in texts], np.int32)
    )
    assert lengths.shape == (2, 3, 2)
    assert lengths[..., 0].tolist() == [[1, 2, 3], [4, 1, 2]]


def test_real_emoji_look_as_their_captions_say(real_emoji):
    """A red heart is red on white in every style, and skin tones are ordered."""
    examples = real_emoji["train"]
    mean = examples.images.reshape(len(examples), -1, 3).mean(axis=1)  # [N, 3]
    hearts = [i for i, key in enumerate(examples.keys) if key.split("/")[0] == HEART]
    assert len(hearts) >= 3
    for i in hearts:
        assert mean[i, 0] > mean[i, 1] + 40 and mean[i, 0] > mean[i, 2] + 40
        assert (examples.images[i, 0, 0] > 240).all()
    tones = np.array(examples.tones)
    styles = np.array(examples.styles)
    for style in STYLES:
        drawn = mean[styles == style]
        _, *brightness = [drawn[tones[styles == style] == tone].mean() for tone in TONES]
        # The hair of the lightest is black, and blond of the next.
        assert brightness == sorted(brightness, reverse=True), style
