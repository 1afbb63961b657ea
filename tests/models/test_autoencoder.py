import numpy as np
import pytest
import tensorflow as tf

from tfsnap.config import AutoencoderConfig
from tfsnap.models.autoencoder import build_autoencoder


@pytest.fixture(scope="module")
def autoencoder():
    return build_autoencoder(AutoencoderConfig(channels=(8, 16, 16), groups=4, resnets=1))


def test_shapes(autoencoder):
    image = tf.zeros([2, 8, 16, 3])
    mean, logvar = autoencoder.encoder(image)
    assert mean.shape == logvar.shape == (2, 2, 4, 4)
    assert autoencoder(image).shape == (2, 8, 16, 3)


def test_moments_do_not_mix_mean_and_variance(autoencoder):
    """The first latent_channels of quant_conv are the mean, as in Stable Diffusion."""
    image = tf.constant(np.random.default_rng(0).uniform(-1, 1, [1, 8, 8, 3]), tf.float32)
    mean, logvar = autoencoder.encoder(image)
    bias = autoencoder.encoder.quant_conv.bias
    bias.assign_add([1.0] * 4 + [2.0] * 4)
    moved_mean, moved_logvar = autoencoder.encoder(image)
    bias.assign_sub([1.0] * 4 + [2.0] * 4)
    np.testing.assert_allclose(moved_mean, mean + 1.0, atol=1e-5)
    np.testing.assert_allclose(moved_logvar, logvar + 2.0, atol=1e-5)


def test_a_halved_decoder_reads_the_same_latents():
    config = AutoencoderConfig(channels=(8, 16), decoder_channels=(4, 8), groups=4, resnets=1)
    model = build_autoencoder(config)
    assert model(tf.zeros([1, 8, 8, 3])).shape == (1, 8, 8, 3)
    assert model.decoder.conv_in.filters == 8


def test_widths_must_fit_the_groups():
    with pytest.raises(ValueError, match="multiples of groups=32"):
        AutoencoderConfig(channels=(16, 32))
