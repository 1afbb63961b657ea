"""The time features of the runtime are those the UNet was trained with."""

import math

import numpy as np
import pytest

from tfsnap.models import unet
from tfsnap.runtime.time_features import time_features


def test_cosines_come_first_then_sines():
    features = time_features(999, width=6, max_period=10_000.0)
    angles = [999.0, 999 / 10_000 ** (1 / 3), 999 / 10_000 ** (2 / 3)]
    expected = [*map(math.cos, angles), *map(math.sin, angles)]
    assert features.shape == (1, 1, 6)
    assert features.dtype == np.float32
    np.testing.assert_allclose(features[0, 0], expected, atol=1e-6)


@pytest.mark.parametrize("t", [0, 1, 500, 999])
def test_equal_those_of_training(t):
    trained = unet.time_features(np.array([t]), 64).numpy()
    runtime = time_features(t, width=64, max_period=unet.MAX_PERIOD)
    np.testing.assert_allclose(runtime, trained, atol=2e-4)  # Training computes t f in float32.
