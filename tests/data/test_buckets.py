import itertools

import numpy as np
import pytest

from tfsnap.data.buckets import BucketSource
from tfsnap.data.source import BatchSource

SIZES = {(2, 4): 60, (3, 3): 30, (4, 2): 10}
BATCH = 2


def source(seed=0, **sizes):
    """Pictures whose first pixel is their number; the table `row` has it, too."""
    sources = {}
    for shape, count in SIZES.items():
        images = np.zeros([count, *shape, 3], np.uint8)
        images[:, 0, 0, 0] = np.arange(count)
        sources[shape] = BatchSource(
            tables={"image": images, "row": np.arange(count)},
            index=np.arange(count),
            batch_size=BATCH,
            seed=seed,
        )
    return BucketSource(sources, seed)


def drawn(one, start, count, **part):
    return list(itertools.islice(one.batches(start, **part).as_numpy_iterator(), count))


def test_each_batch_has_one_shape_and_its_own_rows():
    shapes = list(SIZES)
    one = source()
    for step, batch in enumerate(drawn(one, 0, 50)):
        shape = shapes[one.chosen(np.array([step]))[0]]
        assert batch["image"].shape == (BATCH, *shape, 3)
        np.testing.assert_array_equal(batch["image"][:, 0, 0, 0], batch["row"])


def test_a_batch_depends_on_seed_and_step_only():
    whole = drawn(source(), 0, 40)
    for start in (1, 17, 39):
        for batch, again in zip(whole[start:], drawn(source(), start, 40 - start), strict=True):
            assert batch["image"].shape == again["image"].shape
            np.testing.assert_array_equal(batch["row"], again["row"])
    np.testing.assert_array_equal(source().at(23)["row"], whole[23]["row"])
    others = drawn(source(seed=1), 0, 40)
    shapes = [[batch["image"].shape for batch in batches] for batches in (whole, others)]
    assert shapes[0] != shapes[1]


def test_shapes_come_in_proportion_to_their_sizes():
    counts = np.bincount(source().chosen(np.arange(20_000))) / 20_000
    np.testing.assert_allclose(counts, [0.6, 0.3, 0.1], atol=0.015)
    np.testing.assert_array_equal(
        source().drawn_before(20_000), np.bincount(source().chosen(np.arange(20_000)))
    )


def test_counting_in_parts_is_counting_at_once(monkeypatch):
    monkeypatch.setattr("tfsnap.data.buckets._COUNTED_TOGETHER", 7)
    np.testing.assert_array_equal(
        source().drawn_before(100), np.bincount(source().chosen(np.arange(100)), minlength=3)
    )
    np.testing.assert_array_equal(source().drawn_before(0), [0, 0, 0])


def test_no_example_is_left_out():
    """Whenever a bucket has given as many rows as it has, each of them was among them once."""
    one = source()
    rows = {shape: [] for shape in SIZES}
    for batch in drawn(one, 0, 150):
        rows[batch["image"].shape[1:3]].extend(batch["row"].tolist())
    for shape, count in SIZES.items():
        assert len(rows[shape]) >= count
        assert sorted(rows[shape][:count]) == list(range(count))


def test_workers_share_a_batch():
    whole = drawn(source(), 5, 10)
    parts = [drawn(source(), 5, 10, part=(worker, 2)) for worker in range(2)]
    for batch, first, second in zip(whole, *parts, strict=True):
        np.testing.assert_array_equal(batch["row"], [*first["row"], *second["row"]])


def test_sources_must_agree():
    sources = source().sources
    with pytest.raises(ValueError, match=r"batch sizes of buckets are \[\]"):
        BucketSource({}, 0)
    (shape, one), *_ = sources.items()
    other = BatchSource(tables=one.tables, index=one.index, batch_size=3, seed=0)
    with pytest.raises(ValueError, match=r"batch sizes of buckets are \[2, 3\]; they must be one"):
        BucketSource({**sources, "x": other}, 0)
