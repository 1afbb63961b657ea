"""Distances of sets of features against scipy and against sums written out."""

import numpy as np
import pytest
import scipy.linalg

from tfsnap.metrics.distances import Moments, clip_distance, frechet_distance, kernel_distance


@pytest.fixture
def sets():
    rng = np.random.default_rng(0)
    mix = rng.standard_normal([6, 6])
    return rng.standard_normal([50, 6]) @ mix, 0.7 * rng.standard_normal([40, 6]) + 0.3


def test_the_frechet_distance_is_that_of_scipys_square_root(sets):
    a, b = sets
    mean, covariance = ([f(x) for x in sets] for f in (lambda x: x.mean(0), lambda x: np.cov(x.T)))
    root = scipy.linalg.sqrtm(covariance[0] @ covariance[1])
    expected = np.sum((mean[0] - mean[1]) ** 2) + np.trace(sum(covariance) - 2 * root.real)
    found = frechet_distance(Moments.of(a), Moments.of(b))
    np.testing.assert_allclose(found, expected, rtol=1e-9)
    np.testing.assert_allclose(found, frechet_distance(Moments.of(b), Moments.of(a)), rtol=1e-9)


def test_fewer_pictures_than_features_are_no_trouble():
    a, b = np.random.default_rng(1).standard_normal([2, 5, 32])
    assert np.isfinite(frechet_distance(Moments.of(a), Moments.of(b)))
    np.testing.assert_allclose(frechet_distance(Moments.of(a), Moments.of(a)), 0.0, atol=1e-5)


def test_gaussians_that_are_known_are_as_far_apart_as_they_are():
    eye = np.eye(3)
    a, b = Moments(np.zeros(3), eye, 9), Moments(np.array([3.0, 0.0, 4.0]), 4 * eye, 9)
    assert frechet_distance(a, b) == pytest.approx(25 + 3 * (1 + 4 - 2 * 2))


def test_the_kernel_distance_is_its_sum_written_out(sets):
    a, b = (x[:30] for x in sets)

    def kernel(x, y):
        return (np.dot(x, y) / 6 + 1) ** 3

    within = [
        np.mean([kernel(x[i], x[j]) for i in range(30) for j in range(30) if i != j])
        for x in (a, b)
    ]
    across = np.mean([kernel(x, y) for x in a for y in b])
    found, deviation = kernel_distance(a, b, subsets=3, size=30)
    np.testing.assert_allclose(found, sum(within) - 2 * across, rtol=1e-10)
    assert deviation < 1e-9 * found  # All subsets are the whole.
    assert kernel_distance(a, b, size=10) == kernel_distance(a, b, size=10)


def test_the_kernel_distance_of_one_distribution_is_zero_on_average():
    rng = np.random.default_rng(2)
    found, deviation = kernel_distance(*rng.standard_normal([2, 400, 8]), subsets=200, size=50)
    assert abs(found) < deviation / 3


def test_the_clip_distance_is_its_sum_written_out(sets):
    a, b = (x / np.linalg.norm(x, axis=1, keepdims=True) for x in sets)

    def mean(x, y):
        return np.mean([np.exp(-np.sum((p - q) ** 2) / 200) for p in x for q in y])

    expected = 1000 * (mean(a, a) + mean(b, b) - 2 * mean(a, b))
    np.testing.assert_allclose(clip_distance(a, b), expected, rtol=1e-8)
    assert clip_distance(a, a) == pytest.approx(0.0, abs=1e-9)


def test_what_cannot_be_compared_is_refused(sets):
    with pytest.raises(ValueError, match="1 pictures have no covariance"):
        Moments.of(sets[0][:1])
    with pytest.raises(ValueError, match="features are 6 and 5 wide"):
        frechet_distance(Moments.of(sets[0]), Moments.of(sets[1][:, :5]))
    with pytest.raises(ValueError, match="too few for a kernel distance"):
        kernel_distance(sets[0], sets[1][:1])
