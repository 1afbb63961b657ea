"""Counts against the published ones, and against a network small enough to count by hand."""

import numpy as np
import pytest
import tensorflow as tf
import torch
from diffusers import UNet2DConditionModel

from tests.small_unet import CONFIG
from tfsnap.config import StageConfig, UNetConfig
from tfsnap.models.presets import AUTOENCODERS, UNETS
from tfsnap.models.profile import profile_decoder, profile_encoder, profile_unet, table
from tfsnap.models.unet import build_unet
from tfsnap.weights.diffusers_config import unet_to_json

GIGA = 1e9

# Parameters, and GMACs of one evaluation at 64x64 latents, with attention's products and without.
PUBLISHED = {
    "sd15": (859_520_964, 401.6, 338.6),
    "snapfusion": (759_327_364, 304.5, None),
    "snapfusion_848m": (846_789_764, 304.8, None),
}


@pytest.mark.parametrize(
    "name", ["sd15", "snapfusion", pytest.param("snapfusion_848m", marks=pytest.mark.large)]
)
def test_unets_cost_what_is_published(name):
    parameters, macs, without_attention = PUBLISHED[name]
    cost = profile_unet(UNETS[name], latent=(64, 64))
    assert cost.parameters == parameters
    assert cost.macs / GIGA == pytest.approx(macs, abs=0.05)
    if without_attention:
        assert (cost.macs - cost.attention_macs) / GIGA == pytest.approx(
            without_attention, abs=0.05
        )


def test_a_network_that_was_there_before_stays_what_it_is():
    """Keras turns classes of layers that are made in a `tf.Graph` into those of TensorFlow 1."""
    latent, context = tf.zeros([1, 8, 8, 4]), tf.zeros([1, 5, CONFIG.context_width])
    model, inputs = build_unet(CONFIG), {"timesteps": tf.zeros([1], tf.int32), "context": context}
    before = model(latent, **inputs)
    assert profile_unet(CONFIG, latent=(8, 8), tokens=5).parameters == model.count_params()
    evaluate = tf.function(lambda: model(latent, **inputs))
    np.testing.assert_allclose(evaluate(), before, atol=1e-6)


@pytest.mark.large  # Ten seconds to trace, and nothing that the others do not show.
@pytest.mark.parametrize("name", ["bk_sdm_base", "bk_sdm_small", "bk_sdm_tiny"])
def test_bk_sdm_has_the_size_that_diffusers_gives_it(name):
    with torch.device("meta"):
        theirs = UNet2DConditionModel.from_config(unet_to_json(UNETS[name], 64))
    expected = sum(parameter.numel() for parameter in theirs.parameters())
    assert profile_unet(UNETS[name], latent=(8, 8)).parameters == expected


def test_decoders_cost_what_is_published():
    for name, parameters, macs in (("sd15", 49_490_199, 1257), ("snapfusion", 12_387_479, 318.9)):
        cost = profile_decoder(AUTOENCODERS[name], latent=(64, 64))
        assert cost.parameters == parameters
        assert cost.macs / GIGA == pytest.approx(macs, rel=1e-3)
    encoder = profile_encoder(AUTOENCODERS["sd15"], size=(512, 512))
    assert encoder.parameters == 34_163_664
    assert encoder.macs / GIGA == pytest.approx(558, abs=0.5)


def test_a_small_network_counted_by_hand():
    config = UNetConfig(
        down=(StageConfig(8, 1, 0),),
        mid=StageConfig(8, 1, 1),
        up=(StageConfig(8, 2, 0),),
        context_width=6,
        heads=2,
        groups=4,
    )
    cost = profile_unet(config, latent=(4, 6), tokens=3)
    blocks = {block.name: block for block in cost.blocks}
    assert cost.parameters == build_unet(config).count_params()
    assert blocks["conv_in"].macs == 4 * 6 * 8 * 9 * 4
    time = 32 * 8  # The time embedding's projection in each ResNet.
    assert blocks["down.0.resnets.0"].macs == 2 * 4 * 6 * 8 * 9 * 8 + time
    # Two concatenated maps come in: a wider first convolution, and a shortcut.
    assert blocks["up.0.resnets.0"].macs == 4 * 6 * (8 * 9 * 16 + 8 * 9 * 8 + 16 * 8) + time
    places, width = 4 * 6, 8
    attention = blocks["mid.attentions.0.0"]
    assert attention.attention_macs == 2 * places * width * (places + 3)
    projections = 2 + 4 + 2 + 3 * 4  # proj, self, the places' half of cross, feed-forward.
    weighted = places * width**2 * projections + 2 * 3 * 6 * width
    assert attention.macs == weighted + attention.attention_macs
    # While the last block runs there is at least its input, what it makes of it, and the output.
    assert blocks["up.0.resnets.1"].live >= 3 * places * width
    assert cost.live == max(block.live for block in cost.blocks) < 30 * places * width
    assert table(cost).splitlines()[-1].split()[:2] == ["all", f"{cost.parameters:,}"]
