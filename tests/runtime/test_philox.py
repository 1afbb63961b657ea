"""Noise is Random123's Philox4x32-10 and exactly the normal numbers that the recipe says."""

import math

import numpy as np
import pytest
import tensorflow as tf

from tfsnap.runtime.philox import normal, philox4x32

ONES = 0xFFFFFFFF


# Random123 1.14, tests/kat_vectors.
@pytest.mark.parametrize(
    ("counter", "key", "expected"),
    [
        ([0, 0, 0, 0], (0, 0), [0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8]),
        ([ONES] * 4, (ONES, ONES), [0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD]),
        (
            [0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344],
            (0xA4093822, 0x299F31D0),
            [0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1],
        ),
    ],
)
def test_known_answers(counter, key, expected):
    assert philox4x32(counter=np.array([counter], np.uint32), key=key).tolist() == [expected]


def test_equals_tensorflows_philox():
    key, counter = 0x299F31D0A4093822, [5, 77]
    expected = tf.raw_ops.StatelessRandomUniformFullIntV2(
        shape=[64, 4],
        key=tf.constant([key], tf.uint64),
        counter=tf.constant(counter, tf.uint64),
        alg=1,
        dtype=tf.uint32,
    ).numpy()
    blocks = np.zeros([64, 4], np.uint32)
    blocks[:, 0], blocks[:, 2] = counter[0] + np.arange(64), counter[1]
    found = philox4x32(counter=blocks, key=(key & ONES, key >> 32))
    np.testing.assert_array_equal(found, expected)


def scalar_normals(seed, size, stream=0):
    """The recipe one number at a time, from words that the tests above have checked."""
    numbers = []
    for block in range(-(-size // 4)):
        counter = np.array([[block, 0, stream, 0]], np.uint32)
        words = philox4x32(counter=counter, key=(seed % 2**32, seed // 2**32))[0].tolist()
        for first, second in (words[:2], words[2:]):
            radius = math.sqrt(-2 * math.log((first + 0.5) / 2**32))
            angle = 2 * math.pi * (second + 0.5) / 2**32
            numbers += [radius * math.cos(angle), radius * math.sin(angle)]
    return np.array(numbers[:size], np.float32)


@pytest.mark.parametrize("seed", [0, 1, 2**32, 2**64 - 1])
@pytest.mark.parametrize("stream", [0, 3, ONES])
def test_normals_follow_the_recipe(seed, stream):
    found = normal(seed, (3, 5, 7), stream=stream)
    assert found.dtype == np.float32
    expected = scalar_normals(seed, 105, stream).reshape(3, 5, 7)
    np.testing.assert_array_max_ulp(found, expected, maxulp=1)


def test_normals_are_pinned():
    """The numbers in docs/bundle.md: they must never change."""
    expected = [0.9911377, -0.9246626, -0.61760896, -0.4820686, -0.15363823, 0.1808259]
    np.testing.assert_allclose(normal(0, [6]), expected, rtol=1e-6)


def test_normals_are_normal():
    """Kolmogorov-Smirnov at 1 % and the first four moments within four standard errors."""
    size = 40_000
    x = np.sort(normal(1234, [size])).astype(np.float64)
    cdf = np.array([0.5 * (1 + math.erf(value / math.sqrt(2))) for value in x])
    steps = np.arange(size + 1) / size
    distance = max((cdf - steps[:-1]).max(), (steps[1:] - cdf).max())
    assert distance < 1.628 / math.sqrt(size)
    for power, mean, variance in ((1, 0, 1), (2, 1, 2), (3, 0, 15), (4, 3, 96)):
        assert abs((x**power).mean() - mean) < 4 * math.sqrt(variance / size)


def test_seeds_streams_and_neighbours_are_uncorrelated():
    rows = np.stack([normal(0, [20_000]), normal(1, [20_000]), normal(0, [20_000], stream=1)])
    rows = np.concatenate([rows, np.roll(rows[:1], 1), np.roll(rows[:1], 2)])
    correlation = np.corrcoef(rows) - np.eye(len(rows))
    assert np.abs(correlation).max() < 4 / math.sqrt(20_000)


def test_a_longer_draw_starts_as_a_shorter_one():
    np.testing.assert_array_equal(normal(9, [1000])[:10], normal(9, [10]))


@pytest.mark.parametrize("arguments", [{"seed": -1}, {"seed": 2**64}, {"seed": 0, "stream": 2**32}])
def test_refuses_seeds_and_streams_that_do_not_fit(arguments):
    with pytest.raises(ValueError, match="must be between 0 and"):
        normal(shape=[1], **arguments)
