import collections

import pytest

from tfsnap.metrics.prompts import coco_30k

CAPTIONS = [tuple(f"picture {i}, caption {j}" for j in range(5)) for i in range(200)]


def test_every_picture_is_asked_for_once_by_one_of_its_captions_and_with_its_own_noise():
    found = coco_30k(CAPTIONS, count=150, seed=7)
    assert [prompt.seed for prompt in found] == list(range(7, 157))
    assert len({prompt.caption.partition(",")[0] for prompt in found}) == 150
    assert found == coco_30k(CAPTIONS, count=150, seed=7) != coco_30k(CAPTIONS, count=150)
    which = collections.Counter(prompt.caption[-1] for prompt in found)
    assert len(which) == 5 and max(which.values()) < 60


def test_captions_that_a_set_repeats_are_no_likelier():
    found = coco_30k([("a", "b", "a", "a", "a", "a")] * 400, count=400)
    assert 150 < sum(prompt.caption == "a" for prompt in found) < 250


def test_too_few_pictures_are_told():
    with pytest.raises(ValueError, match="200 pictures have captions; 30000 are asked for"):
        coco_30k(CAPTIONS)
