"""Batches from shards on disk against those of the same tables in memory."""

import numpy as np
import pytest

from tfsnap.data.shards import ShardedTables, ShardWriter, TableSpec
from tfsnap.data.source import BatchSource
from tfsnap.data.tables import StoredTable, stored_tables

ROWS, VARIANTS, VIEWS = 41, 3, 2


@pytest.fixture(scope="module")
def arrays():
    rng = np.random.default_rng(0)
    return {
        "image": rng.integers(0, 256, [ROWS, 6, 6, 3], dtype=np.uint8),
        "tokens": rng.integers(0, 99, [ROWS, VARIANTS, 4]).astype(np.int32),
        "context": rng.standard_normal([ROWS, VARIANTS, 4, 2]).astype(np.float16),
        "moments": rng.standard_normal([ROWS, VIEWS, 2, 2, 8]).astype("bfloat16"),
    }


def write(folder, tables):
    rows = len(next(iter(tables.values())))
    specs = {name: TableSpec(str(t.dtype), t.shape[1:]) for name, t in tables.items()}
    writer = ShardWriter(folder, tables=specs, rows=rows, rows_per_shard=8, about={})
    for shard in writer.missing():
        own = writer.rows_of(shard)
        writer.write(shard, {name: t[own.start : own.stop] for name, t in tables.items()})
    writer.finish()
    return ShardedTables(folder)


@pytest.fixture(scope="module")
def whole(arrays, tmp_path_factory):
    """Every table as it is."""
    return write(tmp_path_factory.mktemp("whole"), arrays)


@pytest.fixture(scope="module")
def single(arrays, tmp_path_factory):
    """One row on disk for each variant or augmentation, as a cache of latents has them."""
    folder = tmp_path_factory.mktemp("single")
    parts = {"views": ("moments",), "captions": ("tokens", "context")}
    flat = {
        part: write(folder / part, {n: arrays[n].reshape(-1, *arrays[n].shape[2:]) for n in names})
        for part, names in parts.items()
    }
    return {
        "image": arrays["image"],
        **stored_tables(flat["captions"], variants=VARIANTS),
        **stored_tables(flat["views"], variants=VIEWS),
    }


def source(tables, **changes):
    settings = {
        "index": np.sort(np.random.default_rng(1).integers(0, ROWS, 60)),
        "batch_size": 12,
        "seed": 2,
        "variants": ("tokens", "context"),
        "augmentations": ("moments",),
        "null_rows": {"tokens": np.zeros(4), "context": np.zeros([4, 2])},
        "dropout": 0.2,
        "pictures": ("image",),
    }
    return BatchSource(tables=tables, **{**settings, **changes})


def assert_same(found, expected):
    for one, other in zip(found, expected, strict=True):
        assert one.keys() == other.keys()
        for name, rows in other.items():
            assert one[name].dtype == rows.dtype
            np.testing.assert_array_equal(one[name], rows, err_msg=name)


@pytest.mark.parametrize("layout", ["whole", "single"])
@pytest.mark.parametrize("part", [(0, 1), (1, 3)])
def test_batches_from_disk_are_those_from_memory(arrays, layout, part, request):
    tables = request.getfixturevalue(layout)
    expected = source(arrays).batches(3, part=part)
    found = source(tables).batches(3, part=part)
    assert found.element_spec == expected.element_spec
    found, expected = (list(d.take(20).as_numpy_iterator()) for d in (found, expected))
    assert_same(found, expected)


@pytest.mark.parametrize("layout", ["whole", "single"])
def test_tables_come_into_memory_as_they_were(arrays, layout, request):
    loaded = source(request.getfixturevalue(layout)).in_memory()
    for name, array in arrays.items():
        assert isinstance(loaded.tables[name], np.ndarray)
        assert loaded.tables[name].dtype == array.dtype
        np.testing.assert_array_equal(loaded.tables[name], array)


def test_what_is_drawn_is_all_that_is_read(single, monkeypatch):
    read, places = ShardedTables.read, []

    def noted(self, rows):
        places.append((len(self), len(rows)))
        return read(self, rows)

    monkeypatch.setattr(ShardedTables, "read", noted)
    next(source(single).batches().take(1).as_numpy_iterator())
    assert places and set(places) == {(ROWS * VARIANTS, 12), (ROWS * VIEWS, 12)}
    # The two tables of captions lie together and are read once.
    assert len(places) % 2 == 0


def test_rows_must_divide_into_variants(single):
    shards = single["tokens"].shards
    with pytest.raises(ValueError, match=f"{ROWS * VARIANTS} rows of 'tokens' cannot be .* of 5"):
        StoredTable(shards, "tokens", variants=5)


def test_mistakes_are_named_as_for_memory(whole):
    with pytest.raises(ValueError, match="'photo' is not a table"):
        source(whole, pictures=("photo",))
    with pytest.raises(ValueError, match=f"from 0 to {ROWS - 1}"):
        source(whole, index=np.array([ROWS]))
