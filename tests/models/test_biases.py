"""What half precision would lose without a word: see `tfsnap.layers.biased`."""

import pytest
import tensorflow as tf
import tf_keras as keras

from tests.metrics.tiny_clip import make_clip
from tests.small_unet import CONFIG, randomised_unet
from tfsnap.config import AutoencoderConfig, TinyDecoderConfig
from tfsnap.layers.biased import Conv2D, Dense, DepthwiseConv2D
from tfsnap.models.autoencoder import build_autoencoder

AUTOENCODER = AutoencoderConfig(channels=(8, 16), groups=4, resnets=1)
TINY = AutoencoderConfig(
    channels=(8, 8), groups=4, resnets=1, tiny_decoder=TinyDecoderConfig((8, 8), (0, 1))
)
NETWORKS = {
    "unet": lambda: randomised_unet(CONFIG.replace(guidance_width=8)),
    "clip": make_clip,
    "autoencoder": lambda: build_autoencoder(AUTOENCODER),
    "tiny": lambda: build_autoencoder(TINY),
}


@pytest.mark.parametrize("network", NETWORKS)
def test_all_biases_are_of_layers_that_add_up_their_gradients_in_float32(network):
    layers = [m for m in NETWORKS[network]().submodules if isinstance(m, keras.layers.Layer)]
    biased = [layer for layer in layers if isinstance(getattr(layer, "bias", None), tf.Variable)]
    assert biased
    assert {type(layer) for layer in biased} <= {Conv2D, Dense, DepthwiseConv2D}
