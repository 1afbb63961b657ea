"""Batches: a pure function of the seed and the step, whoever makes which part of them."""

import numpy as np
import pytest
import tensorflow as tf

from tfsnap.data.augment import AugmentConfig
from tfsnap.data.shuffle import rows_of_steps, sampling_index
from tfsnap.data.source import BatchSource

ROWS, VARIANTS = 23, 5
TABLES = {
    "row": np.arange(ROWS, dtype=np.int32),
    # Entry [i, v] tells both numbers.
    "context": 100 * np.arange(ROWS)[:, None] + np.arange(VARIANTS)[None],
    "tokens": np.stack([100 * np.arange(ROWS)[:, None] + np.arange(VARIANTS)] * 2, axis=-1),
}
NULLS = {"context": np.array(-1), "tokens": np.array([-1, -2])}


def batches(count, *, index=None, **changes):
    settings = {
        "index": np.arange(ROWS) if index is None else index,
        "batch_size": 6,
        "seed": 1,
        "variants": ("context", "tokens"),
        "null_rows": NULLS,
        "dropout": 0.3,
    }
    start = changes.pop("start_step", 0)
    dataset = BatchSource(tables=TABLES, **{**settings, **changes}).batches(start)
    return list(dataset.take(count).as_numpy_iterator())


def joined(count, name, **changes):
    return np.concatenate([batch[name] for batch in batches(count, **changes)])


def same(first, second):
    return all(
        np.array_equal(a[name], b[name])
        for a, b in zip(first, second, strict=True)
        for name in a.keys() | b.keys()
    )


def test_batches_have_the_shapes_of_their_tables():
    (batch,) = batches(1)
    assert {name: array.shape for name, array in batch.items()} == {
        "row": (6,),
        "context": (6,),
        "tokens": (6, 2),
    }


@pytest.mark.parametrize("start", [1, 7])
def test_resuming_gives_what_the_interrupted_run_would_have_seen(start):
    assert same(batches(9)[start:], batches(9 - start, start_step=start))


def test_a_batch_depends_on_the_seed_and_the_step_alone():
    batch = batches(1, start_step=10**6)
    assert same(batches(2, start_step=10**6 - 1)[1:], batch)
    assert not same(batches(1, start_step=10**6, seed=2), batch)


def test_every_epoch_is_a_permutation_of_the_index():
    index = sampling_index(np.arange(ROWS) % 3 == 0, resample=1.0, seed=0)
    rows = joined(len(index), "row", index=index)  # As many batches of 6 are 6 epochs.
    epochs = rows.reshape(6, len(index))
    np.testing.assert_array_equal(np.sort(epochs, axis=1), [np.sort(index)] * 6)
    assert len({tuple(epoch) for epoch in epochs}) == 6
    assert not any((np.diff(epoch) >= 0).all() for epoch in epochs)


def test_a_batch_may_be_larger_than_an_epoch():
    rows = joined(3, "row", batch_size=50)
    np.testing.assert_array_equal(np.sort(rows[:ROWS]), np.arange(ROWS))
    assert len(rows) == 150


def test_one_variant_is_drawn_for_all_tables():
    found = joined(200, "context", dropout=0.0)
    np.testing.assert_array_equal(joined(200, "tokens", dropout=0.0), np.stack([found] * 2, -1))
    np.testing.assert_array_equal(found // 100, joined(200, "row", dropout=0.0))
    shares = np.bincount(found % 100, minlength=VARIANTS) / len(found)
    np.testing.assert_allclose(shares, 1 / VARIANTS, atol=0.06)


@pytest.mark.parametrize("dropout", [0.0, 0.1, 0.5, 1.0])
def test_captions_are_dropped_at_their_rate_and_together(dropout):
    steps = batches(500, dropout=dropout)
    context = np.concatenate([batch["context"] for batch in steps])
    tokens = np.concatenate([batch["tokens"] for batch in steps])
    dropped = context == -1
    np.testing.assert_array_equal((tokens == [-1, -2]).all(axis=-1), dropped)
    np.testing.assert_array_equal((tokens < 0).any(axis=-1), dropped)
    assert dropped.mean() == pytest.approx(dropout, abs=4 * np.sqrt(dropout * (1 - dropout) / 3000))
    # What is dropped changes nothing else.
    kept = joined(500, "context", dropout=0.0)
    np.testing.assert_array_equal(context[~dropped], kept[~dropped])


def test_dropout_is_drawn_anew_in_every_epoch():
    dropped = joined(ROWS * 6, "context", dropout=0.5) == -1
    rows = joined(ROWS * 6, "row", dropout=0.5)
    rates = np.bincount(rows, weights=dropped) / np.bincount(rows)
    assert (rates > 0).all() and (rates < 1).all()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"index": np.array([0, ROWS])}, f"from 0 to {ROWS - 1}"),
        ({"index": np.array([-1])}, f"from 0 to {ROWS - 1}"),
        ({"index": np.array([], int)}, "at least one"),
        ({"batch_size": 0}, "batch_size is 0; it must be at least 1"),
        ({"dropout": 1.5}, "dropout is 1.5; it must be from 0 to 1"),
        ({"null_rows": {}}, "dropout is 0.3, but no null rows"),
        ({"variants": ("contxt",)}, "'contxt' is not a table; the tables are"),
        ({"null_rows": {"caption": np.array(0)}}, "'caption' is not a table"),
    ],
)
def test_mistakes_are_named(changes, message):
    with pytest.raises(ValueError, match=message):
        batches(1, **changes)


def test_tables_must_agree():
    settings = {"index": np.arange(2), "batch_size": 1, "seed": 0}
    with pytest.raises(ValueError, match="same number of rows; they have .*'b': 3"):
        BatchSource(tables={"a": np.zeros(2), "b": np.zeros(3)}, **settings)
    tables = {"a": np.zeros([2, 4]), "b": np.zeros([2, 5])}
    with pytest.raises(ValueError, match="equally many in all tables; they are .*'b': 5"):
        BatchSource(tables=tables, variants=("a", "b"), **settings)
    with pytest.raises(ValueError, match="Augmentations must be equally many"):
        BatchSource(tables=tables, augmentations=("a", "b"), **settings)


IMAGES = np.random.default_rng(0).integers(0, 256, [ROWS, 8, 8, 3], dtype=np.uint8)
TOKENS = np.arange(ROWS * 2 * 3, dtype=np.int32).reshape(ROWS, 2, 3)


def picture_source(**changes):
    settings = {
        "index": np.arange(ROWS),
        "batch_size": 4,
        "seed": 5,
        "variants": ("tokens",),
        "pictures": ("image",),
    }
    return BatchSource(tables={"image": IMAGES, "tokens": TOKENS}, **{**settings, **changes})


def pictures(count, *, start_step=0, part=(0, 1), **changes):
    dataset = picture_source(**changes).batches(start_step, part=part)
    return list(dataset.take(count).as_numpy_iterator())


def test_pictures_are_scaled_and_stay_with_their_captions():
    for batch in pictures(10):
        assert batch["image"].dtype == np.float32 and batch["tokens"].dtype == np.int32
        rows = batch["tokens"][:, 0] // 6
        np.testing.assert_allclose((batch["image"] + 1.0) * 127.5, IMAGES[rows], atol=1e-4)
        assert all(tokens in TOKENS[row] for row, tokens in zip(rows, batch["tokens"], strict=True))


def test_pictures_come_from_the_index_alone():
    rows = np.concatenate([b["tokens"][:, 0] // 6 for b in pictures(5, index=np.array([3, 8]))])
    np.testing.assert_array_equal(np.bincount(rows).nonzero()[0], [3, 8])


def test_dropped_captions_keep_their_pictures():
    null = {"tokens": np.full(3, -1, np.int32)}
    plain, dropped = pictures(5), pictures(5, null_rows=null, dropout=1.0)
    for a, b in zip(plain, dropped, strict=True):
        np.testing.assert_array_equal(a["image"], b["image"])
        assert (b["tokens"] == -1).all()


def test_augmented_batches_resume_exactly():
    augment = AugmentConfig(translation=0.2, zoom=0.2)
    whole = pictures(5, augment=augment)
    assert same(whole[2:], pictures(3, augment=augment, start_step=2))
    assert not same(whole, pictures(5))
    assert all(batch["image"].min() >= -1.0 and batch["image"].max() <= 1.0 for batch in whole)


AUGMENT = AugmentConfig(translation=0.2, zoom=0.2)


@pytest.mark.parametrize("augment", [AugmentConfig(), AUGMENT])
@pytest.mark.parametrize("workers", [2, 3])
def test_workers_make_parts_of_the_same_batches(augment, workers):
    settings = {
        "batch_size": 12,
        "null_rows": {"tokens": np.full(3, -1, np.int32)},
        "dropout": 0.3,
        "augment": augment,
    }
    whole = pictures(4, start_step=2, **settings)
    parts = [
        pictures(4, start_step=2, part=(worker, workers), **settings) for worker in range(workers)
    ]
    for expected, *found in zip(whole, *parts, strict=True):
        for name, rows in expected.items():
            assert all(len(batch[name]) == 12 // workers for batch in found)
            np.testing.assert_array_equal(np.concatenate([b[name] for b in found]), rows)


@pytest.mark.parametrize(
    ("part", "message"),
    [
        ((0, 3), "batch_size is 4, which 3 workers cannot share; .* 3, such as 3 or 6"),
        ((0, 5), "multiple of 5, such as 5$"),
        ((2, 2), "part is .2, 2.; it must be"),
        ((-1, 2), "part is .-1, 2.; it must be"),
    ],
)
def test_parts_that_cannot_be_made_are_named(part, message):
    with pytest.raises(ValueError, match=message):
        picture_source().batches(part=part)


def test_augmentations_are_drawn_apart_from_variants():
    views = 100 * np.arange(ROWS)[:, None] + np.arange(3)[None]
    settings = {"index": np.arange(ROWS), "batch_size": 8, "seed": 1, "variants": ("context",)}
    plain = BatchSource(tables={"context": TABLES["context"]}, **settings)
    both = BatchSource(
        tables={"view": views, "context": TABLES["context"]}, augmentations=("view",), **settings
    )
    drawn = list(both.batches().take(200).as_numpy_iterator())
    for step in (0, 7):
        np.testing.assert_array_equal(drawn[step]["context"], plain.at(step)["context"])
    view, context = (np.concatenate([d[name] for d in drawn]) for name in ("view", "context"))
    np.testing.assert_array_equal(view // 100, context // 100)
    together = np.histogram2d(view % 100, context % 100, bins=[3, VARIANTS])[0] / len(view)
    np.testing.assert_allclose(together, 1 / (3 * VARIANTS), atol=0.03)


def source(**changes):
    rng = np.random.default_rng(0)
    fields = {
        "tables": {
            "image": rng.integers(0, 256, [50, 4, 4, 3], dtype=np.uint8),
            "tokens": rng.integers(0, 99, [50, 5, 6]).astype(np.int32),
        },
        "index": np.sort(rng.integers(0, 50, 70)),
        "batch_size": 16,
        "seed": 3,
        "variants": ("tokens",),
        "null_rows": {"tokens": np.full([6], 100, np.int32)},
        "dropout": 0.3,
        "pictures": ("image",),
    }
    return BatchSource(**{**fields, **changes})


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
