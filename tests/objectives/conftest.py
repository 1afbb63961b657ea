"""A batch for distillers."""

import numpy as np
import pytest


@pytest.fixture
def batch():
    rng = np.random.default_rng(0)
    return {
        "moments": rng.standard_normal([4, 2, 2, 8]).astype(np.float32),
        "context": rng.standard_normal([4, 3, 5]).astype(np.float32),
    }
