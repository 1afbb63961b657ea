import itertools

import numpy as np
import pytest

from tfsnap.data.augment import AugmentConfig
from tfsnap.data.examples import Examples
from tfsnap.data.pipeline import image_batches, sampling_index, table_batches

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
    dataset = table_batches(TABLES, **{**settings, **changes})
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
        ({"null_rows": None}, "dropout is 0.3, but no null rows"),
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
        table_batches({"a": np.zeros(2), "b": np.zeros(3)}, **settings)
    tables = {"a": np.zeros([2, 4]), "b": np.zeros([2, 5])}
    with pytest.raises(ValueError, match="equally many in all tables; they are .*'b': 5"):
        table_batches(tables, variants=("a", "b"), **settings)


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


PICTURES = Examples(
    images=np.random.default_rng(0).integers(0, 256, [ROWS, 8, 8, 3], dtype=np.uint8),
    captions=(("a", "b"),) * ROWS,
    groups=np.zeros(ROWS, np.int32),
    group_names=("all",),
    keys=tuple(map(str, range(ROWS))),
)
TOKENS = np.arange(ROWS * 2 * 3, dtype=np.int32).reshape(ROWS, 2, 3)


def pictures(count, **changes):
    dataset = image_batches(PICTURES, TOKENS, **{"batch_size": 4, "seed": 5, **changes})
    return list(itertools.islice(dataset.as_numpy_iterator(), count))


def test_pictures_are_scaled_and_stay_with_their_captions():
    for batch in pictures(10):
        assert batch["image"].dtype == np.float32 and batch["tokens"].dtype == np.int32
        rows = batch["tokens"][:, 0] // 6
        np.testing.assert_allclose((batch["image"] + 1.0) * 127.5, PICTURES.images[rows], atol=1e-4)
        assert all(tokens in TOKENS[row] for row, tokens in zip(rows, batch["tokens"], strict=True))


def test_pictures_come_from_the_index_alone():
    rows = np.concatenate([b["tokens"][:, 0] // 6 for b in pictures(5, index=np.array([3, 8]))])
    np.testing.assert_array_equal(np.bincount(rows).nonzero()[0], [3, 8])


def test_dropped_captions_keep_their_pictures():
    plain, dropped = pictures(5), pictures(5, null_tokens=np.full(3, -1, np.int32), dropout=1.0)
    for a, b in zip(plain, dropped, strict=True):
        np.testing.assert_array_equal(a["image"], b["image"])
        assert (b["tokens"] == -1).all()


def test_augmented_batches_resume_exactly():
    augment = AugmentConfig(translation=0.2, zoom=0.2)
    whole = pictures(5, augment=augment)
    assert same(whole[2:], pictures(3, augment=augment, start_step=2))
    assert not same(whole, pictures(5))
    assert all(batch["image"].min() >= -1.0 and batch["image"].max() <= 1.0 for batch in whole)
