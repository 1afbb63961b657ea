import numpy as np
import pytest
import tensorflow as tf

from tfsnap.data.augment import AugmentConfig
from tfsnap.data.shuffle import epoch_order, rows_of_steps
from tfsnap.data.source import BatchSource

ROWS = 50


def source(**changes):
    rng = np.random.default_rng(0)
    fields = {
        "tables": {
            "image": rng.integers(0, 256, [ROWS, 4, 4, 3], dtype=np.uint8),
            "tokens": rng.integers(0, 99, [ROWS, 5, 6]).astype(np.int32),
        },
        "index": np.sort(rng.integers(0, ROWS, 70)),
        "batch_size": 16,
        "seed": 3,
        "variants": ("tokens",),
        "null_rows": {"tokens": np.full([6], 100, np.int32)},
        "dropout": 0.3,
        "pictures": ("image",),
    }
    return BatchSource(**{**fields, **changes})


@pytest.mark.parametrize("size", [2, 37, 1000, 65536, 65537, 65538, 300_000])
@pytest.mark.parametrize("seed", [0, -3, 2**40 + 5])
def test_shuffle_is_tensorflows(size, seed):
    places = np.arange(0, size, 1 + size // 500)
    for epoch in (0, 1, 299):
        expected = tf.raw_ops.RandomIndexShuffle(
            index=places, seed=np.array([seed, epoch, 0]), max_index=size - 1, rounds=4
        )
        order = epoch_order(size, seed, epoch)
        np.testing.assert_array_equal(order[places], expected)
        assert len(np.unique(order)) == size - (size == 65537)  # TensorFlow's slip, kept.


def test_known_rows_give_the_same_batches_under_xla():
    data, first, steps = source(), 5, 12  # Nearly three epochs of 70 in batches of 16.
    rows = rows_of_steps(data.index, seed=3, first_step=first, steps=steps, batch_size=16)

    @tf.function(jit_compile=True)
    def batch(tables, rows, step):
        return data.batch(tables=tables, rows=rows, step=step)

    tables = {name: tf.constant(table) for name, table in data.tables.items()}
    dropped = 0
    for step, expected in enumerate(data.batches(first).take(steps)):
        found = batch(tables, tf.constant(rows[step]), tf.constant(first + step))
        np.testing.assert_array_equal(found["tokens"], expected["tokens"])
        np.testing.assert_allclose(found["image"], expected["image"], atol=3e-7)
        dropped += np.sum(found["tokens"][:, 0] == 100)
    assert 0.15 < dropped / (16 * steps) < 0.45


def test_augmentation_cannot_be_compiled():
    data = source(augment=AugmentConfig(zoom=0.1))
    with pytest.raises(ValueError, match=r"'zoom': 0\.1.*set its fields to 0"):
        data.batch(tables={}, rows=tf.zeros([16], tf.int32), step=tf.constant(0))


def test_pictures_must_be_a_table():
    with pytest.raises(ValueError, match="'photo' is not a table"):
        source(pictures=("photo",))
