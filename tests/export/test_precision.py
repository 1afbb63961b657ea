import numpy as np
import pytest

from tests.export.test_skeleton import graph_of
from tfsnap.export.converter import convert
from tfsnap.export.precision import quantise
from tfsnap.weights.lazy import LazyTensor


def lazily(array):
    return LazyTensor(array.shape, array.dtype, lambda: array)


@pytest.mark.parametrize("axis", [None, 0, 2])
def test_quantising_is_rounding_to_127_steps_of_the_largest(axis):
    array = np.random.default_rng(0).standard_normal([4, 3, 5]).astype(np.float32)
    value, scales = quantise(lazily(array), axis)
    shape = [4, 3, 5] if axis is not None else [1]
    assert scales.shape == ((shape[axis],) if axis is not None else (1,))
    broad = (
        np.expand_dims(scales, [i for i in range(3) if i != axis]) if axis is not None else scales
    )
    integers = value.read()
    assert integers.dtype == np.int8
    assert np.abs(integers).max() == 127 and -128 not in integers
    assert np.all(np.abs(integers * broad - array) <= 0.5001 * broad)


def test_halves_are_rounded_away_from_zero():
    array = np.array([127.0, 0.5, -0.5, 1.5, 2.5, -2.5], np.float32)
    value, scales = quantise(lazily(array), None)
    assert scales == [1.0]
    np.testing.assert_array_equal(value.read(), [127, 1, -1, 2, 3, -3])


def test_a_channel_of_zeros():
    array = np.array([[0.0, 0.0], [1.0, -2.0]], np.float32)
    value, scales = quantise(lazily(array), 0)
    assert np.all(np.isfinite(scales)) and np.all(scales > 0)
    np.testing.assert_array_equal(value.read()[0], 0)


def test_a_weight_that_float16_cannot_hold():
    graph = graph_of(lambda x, w: x * w, w=np.full([4], 7e4, np.float32))
    with pytest.raises(ValueError, match=r"reaches 7e\+04, more than float16 .* --precision=int8"):
        convert(graph, "fp16").to_bytes()
