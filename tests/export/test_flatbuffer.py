import io

import numpy as np
import pytest

from tfsnap.export.flatbuffer import LIMIT, ConvertedModel
from tfsnap.export.schema import schema
from tfsnap.weights.lazy import LazyTensor

ARRAYS = [
    np.arange(5, dtype=np.int8),
    np.arange(6, dtype=np.float32).reshape(2, 3),
    np.ones((), np.float16),
    np.arange(40, dtype=np.int32)[::2],
]


def lazily(array):
    return LazyTensor(array.shape, array.dtype, lambda: array)


def made(values):
    """A model with a buffer for each value."""
    return ConvertedModel("model", schema.ModelT(version=3), dict(enumerate(values, start=1)))


def test_buffers_hold_what_was_written_where_the_schema_wants_it():
    written = made([lazily(array) for array in ARRAYS])
    content = written.to_bytes()
    assert len(content) == written.bytes
    assert schema.Model.ModelBufferHasIdentifier(content, 0)
    model = schema.Model.GetRootAs(content, 0)
    for number, array in enumerate(ARRAYS, start=1):
        found = model.Buffers(number).DataAsNumpy()
        np.testing.assert_array_equal(found.view(array.dtype), array.ravel())
        table = model.Buffers(number)._tab
        assert table.Vector(table.Offset(4)) % 16 == 0
    assert model.Buffers(0).DataIsNone()


def test_one_tensor_at_a_time_is_in_memory():
    held = []

    def read(array):
        def now():
            assert not held, "the tensor before was not written yet"
            held.append(array)
            return array

        return now

    class File(io.BytesIO):
        def write(self, data):
            if len(data) == 4_000:
                held.clear()
            return super().write(data)

    arrays = [np.full(1000, i, np.float32) for i in range(3)]
    written = made([LazyTensor(a.shape, a.dtype, read(a)) for a in arrays])
    written.write(File())
    assert not held


def test_more_than_a_flatbuffer_can_hold():
    half = np.dtype(np.float16)
    big = LazyTensor((LIMIT // 4,), half, lambda: pytest.fail("it is refused before it is read"))
    assert made([big]).bytes > LIMIT // 2
    with pytest.raises(ValueError, match=r"model takes 2.15 GB and a TFLite file ends at 2.15 GB"):
        made([big, big]).write(io.BytesIO())


def test_a_tensor_of_another_size_than_announced():
    wrong = LazyTensor((3,), np.dtype(np.float32), lambda: np.zeros(4, np.float32))
    with pytest.raises(ValueError, match=r"is \(4,\), announced as \(3,\)"):
        made([wrong]).to_bytes()
