import numpy as np
import pytest

from tfsnap.export.parity import ParityError, check_parity, psnr_db


def test_psnr():
    reference = np.array([0.0, 2.0])
    assert psnr_db(reference, reference) == np.inf
    assert psnr_db(reference, reference + 0.2) == pytest.approx(20.0)
    assert psnr_db(reference, reference + 0.02) == pytest.approx(40.0)


def calls():
    return [({"x": np.array([float(i)])}, {"y": np.array([2.0 * i])}) for i in range(3)]


def test_parity_is_over_all_calls():
    exact = check_parity("a", lambda x: {"y": 2.0 * x}, calls(), threshold_db=99.0)
    assert exact == np.inf
    # Wrong in the last call only: error 0.4^2 / 3 against a range of 4.
    last = check_parity("a", lambda x: {"y": 2.0 * x + 0.4 * (x == 2)}, calls(), threshold_db=20.0)
    assert last == pytest.approx(10 * np.log10(16 / (0.16 / 3)))
    with pytest.raises(ParityError, match=r"PSNR 24\.8 dB, wanted are 30\.0 dB"):
        check_parity("a", lambda x: {"y": 2.0 * x + 0.4 * (x == 2)}, calls(), threshold_db=30.0)


def test_nan_never_passes():
    with pytest.raises(ParityError, match="NaN"):
        check_parity("a", lambda x: {"y": x * np.nan}, calls(), threshold_db=1.0)


@pytest.mark.parametrize("strange", [np.nan, np.inf])
def test_a_reference_that_is_not_finite_never_passes(strange):
    recorded = [*calls(), ({"x": np.array([3.0])}, {"y": np.array([strange])})]
    with pytest.raises(ParityError, match="Keras itself returns NaN or infinity for the a"):
        check_parity("a", lambda x: {"y": 2.0 * x}, recorded, threshold_db=1.0)
