import numpy as np
import pytest

from tfsnap.export.quantisation.ranges import extremes, least_squares, percentile, ranges_of

STEPS = 255
NORMAL = np.sort(np.random.default_rng(0).standard_normal(100_001))
OUTLIER = np.sort([*NORMAL, 40.0])


def test_extremes_are_the_ends():
    assert extremes(OUTLIER, STEPS) == (NORMAL[0], 40.0)


def test_percentile_leaves_a_thousandth_out_at_each_end():
    least, most = percentile(NORMAL, STEPS)
    assert np.mean(least > NORMAL) == pytest.approx(1e-3, rel=0.05)
    assert np.mean(most < NORMAL) == pytest.approx(1e-3, rel=0.05)


def squared_error(values, least, most, steps):
    scale = (most - least) / steps
    return np.mean((np.round(np.clip(values, least, most) / scale) * scale - values) ** 2)


@pytest.mark.parametrize("steps", [15, 255, 65534])
@pytest.mark.parametrize("values", [NORMAL, OUTLIER], ids=["normal", "outlier"])
def test_least_squares_has_a_smaller_error_than_the_others(values, steps):
    errors = [
        squared_error(values, *method(values, steps), steps)
        for method in (least_squares, extremes, percentile)
    ]
    assert errors[0] <= min(errors)


def test_few_bits_clip_more():
    few, many = (least_squares(NORMAL, steps)[1] for steps in (15, 65534))
    assert few < 0.8 * NORMAL[-1] and many == NORMAL[-1]


def test_an_unknown_method():
    with pytest.raises(ValueError, match=r"'median'; it must be one of extremes, percentile, mse"):
        ranges_of({}, "median", steps=STEPS)
