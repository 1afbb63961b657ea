"""The order of an epoch against TensorFlow's, and how often groups are drawn."""

import numpy as np
import pytest
import tensorflow as tf

from tfsnap.data.shuffle import epoch_keys, epoch_order, sampling_index


@pytest.mark.parametrize("size", [2, 37, 1000, 65536, 65537, 65538, 300_000])
@pytest.mark.parametrize("seed", [0, -3, 2**40 + 5])
def test_shuffle_is_tensorflows(size, seed):
    places = np.arange(0, size, 1 + size // 500)
    for epoch in (0, 1, 299):
        keys = tf.cast(tf.stack(epoch_keys(seed, tf.constant([epoch], tf.uint64)), 1), tf.int64)
        expected = tf.raw_ops.RandomIndexShuffle(
            index=places, seed=keys[0], max_index=size - 1, rounds=4
        )
        order = epoch_order(size, seed, epoch)
        np.testing.assert_array_equal(order[places], expected)
        assert len(np.unique(order)) == size - (size == 65537)  # TensorFlow's slip, kept.


def test_epochs_do_not_repeat_their_order():
    """TensorFlow's cipher takes 8 bits of each word of its key."""
    epochs = [*range(20), 256, 257, 512, 65_536, 2**24, 2**32]
    assert len({tuple(epoch_order(37, 3, epoch)) for epoch in epochs}) == len(epochs)
    assert not np.array_equal(epoch_order(37, 3, 0), epoch_order(37, 3 + 256, 0))


def test_every_row_is_as_likely_at_every_place():
    places = np.array([epoch_order(300, 0, epoch)[:8] for epoch in range(100)])
    spread = 300 / np.sqrt(12 * 100)  # Of the mean of 100 uniform places.
    assert (np.abs(places.mean(axis=0) - 150) < 4.5 * spread).all()


GROUPS = np.repeat([0, 1, 2], [100, 10, 5])


def shares(resample):
    index = sampling_index(GROUPS, resample=resample, seed=0)
    return np.bincount(GROUPS[index]) / len(index)


@pytest.mark.parametrize("resample", [0.0, 0.3, 0.5, 1.0])
def test_resampling_moves_shares_from_natural_to_uniform(resample):
    counts = np.array([100, 10, 5]) ** (1.0 - resample)
    np.testing.assert_allclose(shares(resample), counts / counts.sum(), atol=0.005)


def test_resampling_repeats_the_members_of_a_group_equally():
    index = sampling_index(GROUPS, resample=0.3, seed=0)
    times = np.bincount(index, minlength=len(GROUPS))
    assert index.dtype == np.int64
    assert times.min() == 1
    assert all(np.ptp(times[group == GROUPS]) <= 1 for group in range(3))
    np.testing.assert_array_equal(index, sampling_index(GROUPS, resample=0.3, seed=0))
    assert not np.array_equal(index, sampling_index(GROUPS, resample=0.3, seed=1))


def test_no_resampling_is_every_row_once():
    np.testing.assert_array_equal(
        sampling_index(GROUPS, resample=0.0, seed=0), np.arange(len(GROUPS))
    )


@pytest.mark.parametrize("resample", [-0.1, 1.1])
def test_resample_out_of_range(resample):
    with pytest.raises(ValueError, match=f"resample is {resample}; it must be from 0"):
        sampling_index(GROUPS, resample=resample, seed=0)


def test_nothing_to_sample():
    with pytest.raises(ValueError, match="no examples to sample"):
        sampling_index(np.array([], np.int32), resample=0.5, seed=0)
