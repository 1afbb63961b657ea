import concurrent.futures

import ml_dtypes
import numpy as np
import pytest

from tfsnap.data import shards
from tfsnap.data.shards import ShardedTables, ShardError, ShardWriter, TableSpec

ROWS = 10
SPECS = {
    "image": TableSpec("uint8", (2, 2, 3)),
    "latent": TableSpec("bfloat16", (3,)),
    "group": TableSpec("int32", ()),
}


def values(rows=ROWS):
    random = np.random.default_rng(0)
    return {
        "image": random.integers(0, 256, [rows, 2, 2, 3]).astype(np.uint8),
        "latent": random.standard_normal([rows, 3]).astype(ml_dtypes.bfloat16),
        "group": np.arange(rows, dtype=np.int32),
    }


def writer(folder, **changes):
    options = {"tables": SPECS, "rows": ROWS, "rows_per_shard": 4, "about": {"from": [1, 2]}}
    return ShardWriter(folder, **{**options, **changes})


def write(folder, shards=None, **changes):
    tables, one = values(), writer(folder, **changes)
    for shard in one.missing() if shards is None else shards:
        rows = one.rows_of(shard)
        one.write(shard, {name: table[rows.start : rows.stop] for name, table in tables.items()})
    return one


@pytest.fixture
def folder(tmp_path):
    write(tmp_path).finish()
    return tmp_path


def test_rows_come_back_in_the_order_asked_for(folder):
    tables = ShardedTables(folder)
    assert len(tables) == ROWS
    assert tables.about == {"from": [1, 2]}
    rows = np.array([9, 0, 4, 4, 3])
    for name, table in values().items():
        found = tables.read(rows)[name]
        assert found.dtype == table.dtype
        np.testing.assert_array_equal(found, table[rows])
        np.testing.assert_array_equal(tables.table(name), table)
    tables.verify()


def test_only_what_is_missing_is_written_again(tmp_path):
    write(tmp_path, shards=[1])
    damaged = tmp_path / "shard-00000.array_record"
    damaged.write_bytes(b"half a shard")
    damaged.with_suffix(".sha256").write_text("0" * 64)
    assert writer(tmp_path).missing() == [0, 2]
    with pytest.raises(ShardError, match="shard 0 is missing"):
        writer(tmp_path).finish()
    with pytest.raises(ShardError, match="not finished"):
        ShardedTables(tmp_path)
    write(tmp_path).finish()
    assert writer(tmp_path).missing() == []
    np.testing.assert_array_equal(ShardedTables(tmp_path).table("group"), np.arange(ROWS))


def test_the_same_values_are_the_same_bytes(tmp_path):
    for name in ("a", "b"):
        write(tmp_path / name).finish()
    for path in (tmp_path / "a").iterdir():
        assert path.read_bytes() == (tmp_path / "b" / path.name).read_bytes()


def test_a_folder_of_other_tables_is_refused(folder):
    with pytest.raises(ShardError, match="rows was 10, is 11.*another folder"):
        writer(folder, rows=11)
    with pytest.raises(ShardError, match="about.from"):
        writer(folder, about={"from": [3]})


def test_damage_is_found(folder):
    path = folder / "shard-00001.array_record"
    data = bytearray(path.read_bytes())
    data[-5] ^= 1
    path.write_bytes(data)
    with pytest.raises(ShardError, match="shard-00001.array_record does not match its checksum"):
        ShardedTables(folder).verify()
    path.write_bytes(data[: len(data) // 2])
    with pytest.raises(ShardError, match="shard-00001.array_record cannot be read"):
        ShardedTables(folder).read(np.array([5]))
    path.unlink()
    with pytest.raises(ShardError, match="shard-00001.array_record is missing"):
        ShardedTables(folder)


@pytest.mark.parametrize("row", [-1, ROWS])
def test_a_row_that_is_not_there(folder, row):
    with pytest.raises(ShardError, match="it has 10 rows"):
        ShardedTables(folder).read(np.array([row]))


def test_a_folder_without_tables(tmp_path):
    with pytest.raises(ShardError, match="no tables are here"):
        ShardedTables(tmp_path)
    (tmp_path / "manifest.json").write_text("{")
    with pytest.raises(ShardError, match="not JSON"):
        ShardedTables(tmp_path)
    (tmp_path / "manifest.json").write_text('{"format": "other"}')
    with pytest.raises(ShardError, match="is not"):
        ShardedTables(tmp_path)


@pytest.mark.parametrize(
    ("table", "message"),
    [
        (np.zeros([4], np.int64), "is int64"),
        (np.zeros([3], np.int32), r"\[3\]; it must be int32 \[4\]"),
    ],
)
def test_a_table_that_does_not_fit(tmp_path, table, message):
    tables = {name: value[:4] for name, value in values().items()}
    with pytest.raises(ShardError, match=message):
        writer(tmp_path).write(0, {**tables, "group": table})
    with pytest.raises(ShardError, match="without the table 'group'"):
        writer(tmp_path).write(0, {name: tables[name] for name in ("image", "latent")})


def test_an_unknown_type():
    with pytest.raises(ValueError, match="dtype is 'float64'"):
        TableSpec("float64", ())


def test_threads_share_a_few_open_shards(tmp_path, monkeypatch):
    monkeypatch.setattr(shards, "_OPEN_SHARDS", 2)
    monkeypatch.setattr(shards, "_TOGETHER", 3)  # Some are read row by row, some together.
    monkeypatch.setattr(shards, "_AT_ONCE", 4)
    write(tmp_path, rows_per_shard=1).finish()
    tables = ShardedTables(tmp_path)
    rows = [np.random.default_rng(seed).integers(0, ROWS, 7) for seed in range(60)]
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        found = list(pool.map(tables.read, rows))
    for wanted, one in zip(rows, found, strict=True):
        np.testing.assert_array_equal(one["group"], wanted)
        np.testing.assert_array_equal(one["image"], values()["image"][wanted])
    assert len(tables._readers) == 2
    np.testing.assert_array_equal(tables.table("image"), values()["image"])


def test_a_disk_that_is_full_leaves_the_other_shards(tmp_path, monkeypatch):
    class Full:
        def __init__(self, path, options):
            pass

        def write(self, record):
            pass

        def close(self):
            raise RuntimeError("write() failed: No space left on device; writing x")

    write(tmp_path, shards=[0])
    monkeypatch.setattr(shards, "ArrayRecordWriter", Full)
    with pytest.raises(OSError, match=r"shard-00001.* cannot be written.*No space left"):
        write(tmp_path, shards=[1])
    assert writer(tmp_path).missing() == [1, 2]
