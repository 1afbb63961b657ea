import numpy as np
import pytest

from tfsnap.export.quantisation.formats import FORMATS, INT8, INT16

RANGES = [(-1.0, 3.0), (0.5, 2.0), (-2.0, -0.5), (-1e-9, 1e-9), (0.0, 0.0), (-300.0, 7.0)]


@pytest.mark.parametrize("form", FORMATS.values(), ids=FORMATS)
@pytest.mark.parametrize(("least", "most"), RANGES)
def test_a_range_is_covered_and_zero_is_an_integer(form, least, most):
    scale, zero = form.parameters(least, most)
    assert scale > 0 and form.lowest <= zero <= form.highest
    values = np.linspace(min(least, 0.0), max(most, 0.0), 101)
    integers = np.clip(np.round(values / scale) + zero, form.lowest, form.highest)
    assert np.abs((integers - zero) * scale - values).max() <= 1.01 * scale


def test_int16_is_symmetric_with_room_for_more():
    scale, zero = INT16.parameters(-1.0, 2.0)
    assert zero == 0
    assert scale * INT16.highest == pytest.approx(8.0)


def test_int8_spends_no_step_on_what_does_not_occur():
    assert INT8.parameters(0.0, 255.0) == (1.0, -128)
    assert INT8.parameters(-255.0, 0.0) == (1.0, 127)
