import numpy as np
import pytest
import tensorflow as tf

from tests.small_unet import CONFIG, randomised_unet
from tfsnap.config import AutoencoderConfig, ClipConfig, ClipImageConfig, ClipTextConfig
from tfsnap.models.autoencoder import build_autoencoder
from tfsnap.models.clip import build_clip
from tfsnap.models.unet import build_unet
from tfsnap.models.weightless import build_weightless

CLIP = ClipConfig(
    text=ClipTextConfig(width=8, heads=2, layers=1),
    image=ClipImageConfig(resolution=16, patch=8, width=8, heads=2, layers=1),
    embedding_width=8,
)


@pytest.mark.parametrize(
    "build",
    [
        lambda: build_unet(CONFIG),
        lambda: build_autoencoder(AutoencoderConfig(channels=(8, 16), groups=4, resnets=1)),
        lambda: build_clip(CLIP),
    ],
    ids=["unet", "autoencoder", "clip"],
)
def test_it_has_the_same_variables_without_values(build):
    wanted, found = build().variables, build_weightless(build).variables
    assert [(v.name, v.shape, v.dtype) for v in found] == [
        (v.name, v.shape, v.dtype) for v in wanted
    ]
    assert not any(variable.is_initialized() for variable in found)


def test_networks_made_before_and_after_still_run():
    inputs = {
        "latent": tf.ones([1, 8, 8, 4]),
        "timesteps": tf.constant([3]),
        "context": tf.ones([1, 2, 6]),
    }
    before = randomised_unet(CONFIG)
    wanted = before(**inputs)
    build_weightless(lambda: build_unet(CONFIG))
    np.testing.assert_array_equal(before(**inputs), wanted)
    np.testing.assert_array_equal(randomised_unet(CONFIG)(**inputs), wanted)
