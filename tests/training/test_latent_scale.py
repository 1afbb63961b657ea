"""The scale of an autoencoder's latents, measured on a network that computes in less precision."""

import numpy as np
import pytest
import tf_keras as keras

from tfsnap.config import AutoencoderConfig
from tfsnap.models.autoencoder import build_autoencoder
from tfsnap.training.jobs.autoencoder import latent_deviation, moment_encoder
from tfsnap.training.precision import computing_in

CONFIG = AutoencoderConfig(channels=(8, 8), groups=4, resnets=1)


def network(precision):
    keras.utils.set_random_seed(0)
    with computing_in(precision):
        return build_autoencoder(CONFIG)


@pytest.mark.parametrize("precision", ["bfloat16", "float16"])
def test_the_scale_is_measured_in_float32(precision):
    images = np.random.default_rng(0).integers(0, 256, [256, 32, 32, 3], dtype=np.uint8)
    low = network(precision)
    assert moment_encoder(low)(images[:1]).dtype == np.float32
    expected = latent_deviation(network("float32"), images)
    assert latent_deviation(low, images) == pytest.approx(expected, rel=0.02)
