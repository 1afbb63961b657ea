"""Safetensors, read and written a tensor at a time."""

import json

import ml_dtypes
import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from tests.full_disk import full_disk
from tfsnap.weights.lazy import LazyTensor, open_safetensors, write_safetensors
from tfsnap.weights.names.table import match, vector
from tfsnap.weights.tensors import WeightFileError, WeightMismatchError


def lazy(array):
    return LazyTensor(array.shape, array.dtype, lambda: array)


def test_files_are_those_of_the_formats_own_library(tmp_path):
    rng = np.random.default_rng(0)
    arrays = {
        "matrix": rng.standard_normal([3, 4]).astype(np.float32),
        "transposed": rng.standard_normal([3, 4]).astype(np.float16).T,
        "scalar": np.float32(2.5).reshape([]),
        "empty": np.zeros([0, 3], np.float32),
    }
    path = tmp_path / "a.safetensors"
    write_safetensors(path, {key: lazy(array) for key, array in arrays.items()}, {"format": "pt"})
    for key, array in load_file(path).items():
        np.testing.assert_array_equal(array, arrays[key])
    tensors, metadata = open_safetensors(path)
    assert metadata == {"format": "pt"}
    for key, tensor in tensors.items():
        np.testing.assert_array_equal(tensor.read(), arrays[key])
        assert tensor.dtype == arrays[key].dtype


def test_types_of_the_formats_own_library_are_read(tmp_path):
    arrays = {
        kind: np.arange(5).astype(kind)
        for kind in ("float64", "float32", "float16", "int64", "int32", "uint8", "bool")
    }
    arrays["bfloat16"] = (np.arange(5) / 3).astype(ml_dtypes.bfloat16)
    save_file(arrays, tmp_path / "a.safetensors")
    for key, tensor in open_safetensors(tmp_path / "a.safetensors")[0].items():
        np.testing.assert_array_equal(tensor.read(), arrays[key].astype(tensor.dtype))
        assert str(tensor.dtype) == ("float32" if key == "bfloat16" else key)


@pytest.mark.parametrize("kind", ["float8_e4m3fn", "float8_e5m2"])
def test_a_type_that_is_not_read_matters_where_it_is_wanted(tmp_path, kind):
    arrays = {"small": np.ones([3, 2], getattr(ml_dtypes, kind)), "b": np.ones(2, np.float32)}
    save_file(arrays, tmp_path / "a.safetensors")
    tensors, _ = open_safetensors(tmp_path / "a.safetensors")
    np.testing.assert_array_equal(tensors["b"].read(), arrays["b"])
    assert tensors["small"].shape == (3, 2)
    with pytest.raises(WeightFileError, match=r"small is stored as F8_E[45]M[32]: use a file in"):
        tensors["small"].read()
    rows = [vector("s", "small", "small", 3, 2), vector("b", "b", "b", 2)]
    (line,) = match(rows, tensors, name=lambda row: row.diffusers, torch=True)[1]
    assert line.startswith(
        "1 of a type that is not read (use a file in float16, bfloat16 or float3"
    )
    assert "small (F8_E" in line
    assert not match(rows[1:], {"b": tensors["b"]}, name=lambda row: row.ldm, torch=True)[1]


def test_no_metadata_may_be_null(tmp_path):
    (tmp_path / "a.safetensors").write_bytes(encoded({"a": GOOD, "__metadata__": None}))
    assert open_safetensors(tmp_path / "a.safetensors")[1] == {}


def test_casts(tmp_path):
    double = lazy(np.array([1.5, np.inf]))
    assert double.cast(None, "x").read().dtype == np.float32  # An infinity stays what it was.
    assert double.cast("float16", "x").read().dtype == np.float16
    half = lazy(np.ones(2, np.float16))
    assert half.cast(None, "x") is half
    with pytest.raises(WeightMismatchError, match=r"x reaches 7e\+04, more than float16 can hold"):
        lazy(np.float32([7e4])).cast("float16", "x").read()
    for strange in (np.inf, np.nan):  # It says nothing of the numbers beside it.
        with pytest.raises(WeightMismatchError, match=r"x reaches 8e\+04, more than float16"):
            lazy(np.float32([strange, 1, -8e4])).cast("float16", "x").read()


def test_a_failed_write_leaves_the_old_file_alone(tmp_path):
    path = tmp_path / "a.safetensors"
    write_safetensors(path, {"a": lazy(np.ones(2, np.float32))}, {})
    wrong = LazyTensor((3,), np.dtype(np.float32), lambda: np.zeros(2, np.float32))
    with pytest.raises(ValueError, match=r"a is float32 \(2,\), announced as float32 \(3,\)"):
        write_safetensors(path, {"a": wrong}, {})
    np.testing.assert_array_equal(load_file(path)["a"], 1)
    assert [p.name for p in tmp_path.iterdir()] == ["a.safetensors"]


def test_a_full_disk_is_told_as_such(tmp_path):
    path = tmp_path / "a.safetensors"
    with full_disk(room=3000), pytest.raises(OSError, match="too large: .*a.safetensors"):
        write_safetensors(path, {"a": lazy(np.ones(10_000, np.float32))}, {})
    assert list(tmp_path.iterdir()) == []


def encoded(header, body=b"\0" * 8):
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text + body


GOOD = {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "not a complete safetensors file"),
        (b"\xff" * 8, "not a complete safetensors file"),
        (encoded(b"{"), "not a safetensors file"),
        (encoded([1]), "no JSON object"),
        (encoded({"a": {**GOOD, "dtype": "F8"}}), "a is described as"),
        (encoded({"a": {**GOOD, "dtype": ["F32"]}}), "a is described as"),
        (encoded({"a": {**GOOD, "dtype": "F8_E5M2"}}), r"a of shape \[2\] has 8 bytes"),
        (encoded({"a": GOOD, "__metadata__": 3}), "its __metadata__ is no JSON object"),
        (encoded({"a": GOOD, "__metadata__": ["pt"]}), "its __metadata__ is no JSON object"),
        (encoded({"a": {**GOOD, "shape": ["x"]}}), "a is described as|a of shape"),
        (encoded({"a": {**GOOD, "shape": [-1, -2]}}), "a of shape"),
        (encoded({"a": {**GOOD, "shape": [3]}}), r"a of shape \[3\] has 8 bytes"),
        (encoded({"a": GOOD}, b"\0" * 7), "truncated or damaged"),
        (encoded({"a": GOOD}, b"\0" * 9), "truncated or damaged"),
    ],
)
def test_damage_is_named(content, message, tmp_path):
    path = tmp_path / "a.safetensors"
    path.write_bytes(content)
    with pytest.raises(WeightFileError, match=message):
        open_safetensors(path)
