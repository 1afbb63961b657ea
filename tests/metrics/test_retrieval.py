import numpy as np
import pytest

from tfsnap.metrics.retrieval import retrieval


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
