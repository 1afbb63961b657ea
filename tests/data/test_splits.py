import collections
import dataclasses
import itertools
import random

import pytest

from tfsnap.data.captions import STYLES, TONES
from tfsnap.data.catalogue import Drawing, Picture, Words
from tfsnap.data.splits import assign_splits


def picture(label, tone, style):
    words = Words(code_point=f"{label} {tone}", label=label, tags=(), group="g", tone=tone)
    key = f"{label}/{tone}/{style}"
    return Picture(key, words, style, Drawing(svg=key), packaged=key)


def catalogue(toned=30, plain=60, styles=STYLES):
    gestures = [f"gesture {i}" for i in range(toned)]
    things = [f"thing {i}" for i in range(plain)]
    drawn = itertools.chain(
        itertools.product(gestures, ("", *TONES), styles), itertools.product(things, [""], styles)
    )
    return [picture(*what) for what in drawn]


def triples(pictures, splits, split):
    chosen = [p for p in pictures if splits[p.key] == split]
    return [(p.words.label, p.words.tone, p.style) for p in chosen]


def check_holdout(train, holdout):
    """Of each combination held out, every part occurs in train, and the whole does not."""
    train = set(train)
    parts = [{(t[i], t[j]) for t in train} for i, j in ((0, 1), (0, 2), (1, 2))]
    for label, tone, style in holdout:
        assert (label, tone, style) not in train
        assert tone
        assert (label, tone) in parts[0]
        assert (label, style) in parts[1]
        assert (tone, style) in parts[2]


def check_validation(train, validation):
    """Train shows each concept and each style, but not the two together."""
    labels, styles = {t[0] for t in train}, {t[2] for t in train}
    pairs = {(t[0], t[2]) for t in train}
    styles_of = collections.defaultdict(set)
    for label, _, style in validation:
        assert label in labels and style in styles and (label, style) not in pairs
        styles_of[label].add(style)
    assert {len(chosen) for chosen in styles_of.values()} == {1}


def test_splits_have_their_sizes_and_properties():
    pictures = catalogue()
    splits = assign_splits(pictures)
    assert splits.keys() == {p.key for p in pictures}
    train, validation, holdout = (
        triples(pictures, splits, split) for split in ("train", "validation", "holdout")
    )
    assert len({(label, style) for label, _, style in validation}) == round(0.05 * 90 * 4)
    assert len(holdout) == round(0.10 * 30 * 5 * 4)
    check_holdout(train, holdout)
    check_validation(train, validation)


def test_all_tones_of_a_validation_pair_are_left_out_together():
    pictures = catalogue(toned=60, plain=0)
    counts = collections.Counter(
        (label, style)
        for label, _, style in triples(pictures, assign_splits(pictures), "validation")
    )
    assert set(counts.values()) == {6}


def test_the_order_of_pictures_changes_nothing():
    pictures = catalogue()
    shuffled = random.Random(0).sample(pictures, len(pictures))
    assert assign_splits(shuffled) == assign_splits(pictures)


def test_a_picture_that_is_renamed_stays_in_its_split():
    pictures = catalogue()
    exchanged = {"medium": "medium-light", "medium-light": "medium"}
    renamed = [
        dataclasses.replace(
            picture(p.words.label, exchanged.get(p.words.tone, p.words.tone), p.style),
            drawing=p.drawing,
            packaged=p.key,
        )
        for p in pictures
        if p.style == "fluent 3d"
    ] + [p for p in pictures if p.style != "fluent 3d"]
    before, after = assign_splits(pictures), assign_splits(renamed)
    assert {p.packaged: after[p.key] for p in renamed} == before
    assert any(p.key != p.packaged and after[p.key] == "holdout" for p in renamed)


def test_a_lone_style_is_never_left_out():
    """Nothing else would show the concept, or the tone of it."""
    splits = assign_splits(catalogue(toned=3, plain=10, styles=("noto",)))
    assert set(splits.values()) == {"train"}


def test_a_concept_with_one_tone_is_never_held_out():
    pictures = [picture(f"thing {i}", "dark", style) for i in range(50) for style in STYLES]
    assert "holdout" not in assign_splits(pictures).values()


def test_real_emoji_are_divided_as_stated(real_emoji):
    assert {split: len(part) for split, part in real_emoji.items()} == {
        "train": 12_295,
        "validation": 744,
        "holdout": 703,
    }
    named = {
        split: list(zip(part.labels, part.tones, part.styles, strict=True))
        for split, part in real_emoji.items()
    }
    check_holdout(named["train"], named["holdout"])
    check_validation(named["train"], named["validation"])


@pytest.mark.parametrize("split", ["validation", "holdout"])
def test_no_caption_of_another_split_is_trained_on(real_emoji, split):
    trained = {captions[0] for captions in real_emoji["train"].captions}
    assert trained.isdisjoint(captions[0] for captions in real_emoji[split].captions)


def test_what_is_drawn_as_a_picture_of_train_is_not_unseen():
    pictures = catalogue()
    splits = assign_splits(pictures)
    unseen = next(p for p in pictures if splits[p.key] == "validation")
    seen = next(p for p in pictures if splits[p.key] == "train")
    same = [dataclasses.replace(p, drawing=seen.drawing) if p == unseen else p for p in pictures]
    assert assign_splits(same) == {**splits, unseen.key: "train"}
