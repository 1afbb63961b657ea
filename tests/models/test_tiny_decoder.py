"""The tiny decoder in its autoencoder, and the configs that ask for one."""

import numpy as np
import pytest
import tensorflow as tf

from tfsnap.config import AutoencoderConfig, TinyDecoderConfig
from tfsnap.models.autoencoder import build_autoencoder
from tfsnap.models.presets import AUTOENCODERS
from tfsnap.models.profile import profile_decoder
from tfsnap.weights.store import addressed

TINY = TinyDecoderConfig(channels=(6, 8, 10), blocks=(0, 1, 2), expansion=3)
SMALL = AutoencoderConfig(channels=(8, 8, 16), groups=4, resnets=1, tiny_decoder=TINY)


def randomised(config):
    model = build_autoencoder(config)
    rng = np.random.default_rng(0)
    for variable in model.decoder.variables:
        variable.assign(0.2 * rng.standard_normal(variable.shape))
    return model


def test_pictures_come_back_in_their_size():
    assert build_autoencoder(SMALL)(tf.zeros([2, 8, 16, 3])).shape == (2, 8, 16, 3)


def test_addresses():
    names = {name.rpartition(".")[0] for name in addressed(build_autoencoder(SMALL).variables)}
    blocks = [f"up.{i}.blocks.{j}" for i, j in ((0, 0), (0, 1), (1, 0))]
    parts = [f"{b}.{part}" for b in blocks for part in ("depthwise", "expand", "project")]
    parts += ["conv_in", "conv_out", "up.0.upsample.conv", "up.1.upsample.conv"]
    assert {name for name in names if not name.startswith("encoder.")} == {
        "quant_conv",
        "post_quant_conv",
        *(f"decoder.{part}" for part in parts),
    }


def test_the_decoder_sees_latents_of_unit_variance():
    """A latent that is ten times as large, with a tenth of the scale, is the same to it."""
    model, other = (randomised(SMALL.replace(scale=scale)) for scale in (0.5, 0.05))
    for decoder in (model.decoder, other.decoder):
        decoder.post_quant_conv.bias.assign(tf.zeros([4]))
    latent = tf.constant(np.random.default_rng(1).standard_normal([1, 3, 3, 4]), tf.float32)
    expected = model.decoder(latent)
    np.testing.assert_allclose(other.decoder(10.0 * latent), expected, atol=1e-4)
    assert np.abs(model.decoder(10.0 * latent) - expected).max() > 0.1


def test_outliers_are_bounded():
    decoder = randomised(SMALL).decoder
    latent = tf.constant(np.random.default_rng(1).standard_normal([1, 3, 3, 4]), tf.float32)
    np.testing.assert_allclose(decoder(1e5 * latent), decoder(1e7 * latent), atol=1e-3)


def test_it_is_counted_by_hand():
    cost = profile_decoder(SMALL, latent=(2, 3))
    assert cost.parameters == sum(
        np.prod(v.shape) for v in build_autoencoder(SMALL).decoder.variables
    )

    def block(places, width):
        return places * (9 * width + 2 * 3 * width**2)

    assert cost.macs == (
        6 * (4 * 4 + 9 * 4 * 10)  # post_quant_conv, conv_in
        + 2 * block(6, 10)
        + 24 * 9 * 10 * 8  # Doubling.
        + block(24, 8)
        + 96 * (9 * 8 * 6 + 9 * 6 * 3)  # Doubling, conv_out.
    )


def test_the_preset_has_less_than_a_tenth_of_the_parameters():
    teacher, tiny = (profile_decoder(AUTOENCODERS[n], latent=(64, 64)) for n in ("sd15", "tiny"))
    assert tiny.parameters == 1_434_615 < teacher.parameters / 10
    assert tiny.attention_macs == 0
    assert tiny.macs < teacher.macs / 40


def test_the_config_goes_through_json():
    assert AutoencoderConfig.from_dict(SMALL.to_dict()) == SMALL
    assert SMALL.to_dict()["tiny_decoder"]["blocks"] == [0, 1, 2]
    old = {k: v for k, v in AutoencoderConfig().to_dict().items() if k != "tiny_decoder"}
    assert AutoencoderConfig.from_dict(old) == AutoencoderConfig()  # Files from before.


def test_wrong_configs_are_refused():
    with pytest.raises(ValueError, match="tiny_decoder .* of 4 stages"):
        AutoencoderConfig(tiny_decoder=TINY)
    with pytest.raises(ValueError, match=r"decoder_channels is \(4, .* None beside a tiny"):
        SMALL.replace(decoder_channels=(4, 8, 16))
    with pytest.raises(ValueError, match=r"blocks is \(1, 2\); it must be 4 counts"):
        TinyDecoderConfig(blocks=(1, 2))
    with pytest.raises(ValueError, match="channels is .*one positive width"):
        TinyDecoderConfig(channels=(0, 8, 8, 8))
    with pytest.raises(ValueError, match="expansion is 0"):
        TinyDecoderConfig(expansion=0)
