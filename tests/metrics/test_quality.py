"""Estimates against resampling written out, and against scipy."""

import dataclasses

import numpy as np
import pytest
import scipy.linalg
import scipy.stats

from tfsnap.metrics.distances import clip_distance, kernel_distance
from tfsnap.metrics.features import FeatureSpace
from tfsnap.metrics.quality import agree, differ, distances, draws, floor
from tfsnap.metrics.reference import Reference
from tfsnap.metrics.standard_error import standard_error

WIDTH = 5
CLIP = FeatureSpace("clip:abc", WIDTH, None)
INCEPTION = FeatureSpace("inception:abc", WIDTH, None)


def unit(count, seed, shift=0.0):
    rows = np.random.default_rng(seed).standard_normal([count, WIDTH]) + shift
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def reference(space=CLIP, count=60):
    return Reference.of(unit(count, 0), space=space, side=8)


def scipys(x, y):
    root = scipy.linalg.sqrtm(np.cov(x.T) @ np.cov(y.T)).real
    apart = np.square(x.mean(0) - y.mean(0)).sum()
    return apart + np.trace(np.cov(x.T) + np.cov(y.T) - 2 * root)


def test_values_are_the_distances_and_errors_their_spread_over_bootstraps():
    real, made = unit(60, 0), unit(40, 1, shift=0.5)
    found = distances(made, Reference.of(real, space=CLIP, side=8), resamples=30, seed=2)
    rows = [np.repeat(made, row, axis=0) for row in draws(40, resamples=30, seed=2)]
    assert {len(part) for part in rows} == {40}
    # The reference keeps float32 features, of which its moments are computed.
    assert found.frechet.value == pytest.approx(scipys(real, made), rel=1e-4)
    assert found.frechet.error == pytest.approx(np.std([scipys(real, r) for r in rows]), rel=1e-3)
    assert found.clip.value == pytest.approx(clip_distance(made, real), rel=1e-4)
    expected = np.std([clip_distance(r, real) for r in rows])
    assert found.clip.error == pytest.approx(expected, rel=1e-3)
    kernel, spread = kernel_distance(made, real, size=20, seed=2)
    assert found.kernel.value == pytest.approx(kernel, rel=1e-4)
    assert found.kernel.error == pytest.approx(spread, rel=1e-4) and spread > 0.05 * kernel
    assert str(found).startswith("Frechet ") and "KID" in str(found) and "CMMD" in str(found)


def test_what_a_reference_lacks_is_left_out():
    assert distances(unit(40, 1), reference(INCEPTION)).clip is None
    moments_alone = dataclasses.replace(reference(INCEPTION), features=None)
    found = distances(unit(40, 1), moments_alone)
    assert found.kernel is None and found.frechet.value > 0
    with pytest.raises(ValueError, match="1 pictures have no covariance"):
        distances(unit(1, 1), reference())


def test_the_error_of_a_mean_is_scipys():
    rng = np.random.default_rng(0)
    candidates, images = unit(30, 3), unit(200, 4)
    targets = rng.integers(0, 30, 200)
    found = agree(images=images, candidates=candidates, targets=targets, resamples=2000)
    own = (images @ candidates.T)[np.arange(200), targets]
    hits = (images @ candidates.T).argmax(axis=1) == targets
    for estimate, values in ((found.clip_score, own), (found.top1, hits)):
        assert estimate.value == pytest.approx(values.mean())
        assert estimate.error == pytest.approx(scipy.stats.sem(values, ddof=0), rel=0.1)
    assert found.chance == 1 / 30


def test_a_difference_is_that_of_pairs():
    rng = np.random.default_rng(0)
    candidates, shared = unit(30, 3), unit(200, 4)
    targets = rng.integers(0, 30, 200)
    both = [shared + 0.1 * rng.standard_normal(shared.shape) for _ in range(2)]
    images, others = (x / np.linalg.norm(x, axis=1, keepdims=True) for x in both)
    how = {"candidates": candidates, "targets": targets, "resamples": 2000}
    found = differ(images=images, others=others, baseline="others", **how)
    own, hits = [], []
    for x in (images, others):
        cosines = x @ candidates.T
        own.append(cosines[np.arange(200), targets])
        hits.append((cosines.argmax(axis=1) == targets).astype(float))
    for estimate, (a, b) in ((found.clip_score, own), (found.top1, hits)):
        assert estimate.value == pytest.approx(a.mean() - b.mean(), abs=1e-9)
        assert estimate.error == pytest.approx(scipy.stats.sem(a - b, ddof=0), rel=0.1)
    alone = [agree(images=x, **how).clip_score.error for x in (images, others)]
    assert found.clip_score.error < 0.5 * np.hypot(*alone)  # What both share is in neither.
    assert found.baseline == "others"


def test_the_floor_of_two_halves_has_every_picture_once():
    found, count = floor(reference(), count=1000)
    assert count == 30
    rows = np.random.default_rng(0).permutation(60)
    features = unit(60, 0)
    expected = scipys(features[rows[:30]], features[rows[30:]])
    assert found.frechet.value == pytest.approx(expected, rel=1e-3)
    assert floor(reference(), count=10)[1] == 10


def test_the_floor_of_other_pictures_is_of_as_many_as_are_generated():
    other = Reference.of(unit(50, 7), space=CLIP, side=8)
    found, count = floor(reference(), other, count=20)
    assert count == 20
    rows = np.random.default_rng(0).permutation(50)[:20]
    expected = scipys(unit(60, 0), unit(50, 7)[rows])
    assert found.frechet.value == pytest.approx(expected, rel=1e-3)
    with pytest.raises(ValueError, match="a floor needs features"):
        floor(dataclasses.replace(reference(), features=None), count=5)
    with pytest.raises(ValueError, match="two halves of the real pictures; 3 are too few"):
        floor(reference(count=3), count=5)


def test_a_frechet_distance_is_the_fid_of_inceptions_features_alone():
    alone = dataclasses.replace(reference(), features=None)
    assert str(distances(unit(20, 1), alone)).startswith("Frechet ")
    published = dataclasses.replace(alone, space=None)  # A file of pytorch-fid.
    assert str(distances(unit(20, 1), published)).startswith("FID ")


def test_standard_error():
    assert standard_error(np.array([1.0])) == np.inf
    values = np.array([1.0, 3.0, 5.0, 7.0])
    assert standard_error(values) == pytest.approx(scipy.stats.sem(values))
