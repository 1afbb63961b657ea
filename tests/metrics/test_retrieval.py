from types import SimpleNamespace

import numpy as np
import pytest
import tensorflow as tf

from tfsnap.metrics.retrieval import embed_images, find_captions, retrieval


def unit(rows):
    rows = np.asarray(rows, np.float32)
    return rows / np.linalg.norm(rows, axis=-1, keepdims=True)


def test_top1_and_score():
    candidates = unit([[1, 0], [0, 1], [-1, 0]])
    images = unit([[3, 1], [1, 3], [1, 0.1]])
    result = retrieval(images=images, candidates=candidates, targets=[0, 1, 2])
    assert result.top1 == pytest.approx(2 / 3)
    assert result.chance == pytest.approx(1 / 3)
    assert result.count == 3
    own = [images[0] @ candidates[0], images[1] @ candidates[1], images[2] @ candidates[2]]
    assert result.clip_score == pytest.approx(np.mean(own), abs=1e-6)


def test_a_tie_is_a_miss():
    candidates = unit([[1, 0], [1, 0]])
    result = retrieval(images=unit([[1, 0]]), candidates=candidates, targets=[0])
    assert result.top1 == 0.0


class FakeClip:
    """Both towers look words up: a caption is a number, and a picture has its number's colour."""

    config = SimpleNamespace(image=SimpleNamespace(resolution=2))

    def embed_image(self, images):
        return tf.one_hot(tf.cast(images[:, 0, 0, 0], tf.int32), 4)

    def embed_text(self, tokens):
        return tf.one_hot(tokens[:, 0], 4)


def tokenize(captions):
    return np.array([[int(caption)] for caption in captions], np.int32)


def of_colours(*numbers):
    return np.array(numbers, np.float32).reshape(-1, 1, 1, 1) * np.ones([1, 2, 2, 3], np.float32)


def test_captions_are_found_among_candidates_of_which_repetitions_count_once():
    result = find_captions(
        FakeClip(),
        tokenize,
        images=of_colours(2, 0, 1),
        captions=["2", "0", "3"],  # The last picture shows something else.
        candidates=["0", "0", "2", "3", "2", "1"],
    )
    assert result.top1 == pytest.approx(2 / 3)
    assert result.chance == pytest.approx(1 / 4)
    assert result.clip_score == pytest.approx(2 / 3)
    assert str(result) == "top-1 66.7% of 3 pictures (chance 25.00%), CLIP score 0.667"


def test_pictures_of_another_size_are_refused():
    with pytest.raises(ValueError, match="4 x 2 pixels do not fit this CLIP, which takes 2 x 2"):
        embed_images(FakeClip(), np.zeros([1, 4, 2, 3], np.float32))
