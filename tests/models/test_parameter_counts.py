"""Stable Diffusion v1.5 builds with exactly the published parameter counts.

The networks are built without weights: the full-size UNet takes seconds and no gigabytes.
"""

import pytest

from tfsnap.config import AutoencoderConfig, ClipConfig, ClipTextConfig, UNetConfig
from tfsnap.models.autoencoder import build_autoencoder
from tfsnap.models.clip import build_clip, build_text_encoder
from tfsnap.models.presets import UNETS
from tfsnap.models.unet import build_unet
from tfsnap.models.weightless import build_weightless
from tfsnap.weights.store import addressed


def parameters(build, config):
    return count(build_weightless(lambda: build(config)).variables)


def count(variables):
    return sum(variable.shape.num_elements() for variable in variables)


@pytest.mark.parametrize(
    ("config", "expected"), [(UNetConfig(), 859_520_964), (UNETS["snapfusion"], 759_327_364)]
)
def test_unet(config, expected):
    assert parameters(build_unet, config) == expected


def test_text_encoder():
    assert parameters(build_text_encoder, ClipTextConfig()) == 123_060_480


@pytest.mark.parametrize(
    ("decoder_channels", "expected"), [(None, 49_490_179), ((64, 128, 256, 256), 12_387_459)]
)
def test_autoencoder(decoder_channels, expected):
    config = AutoencoderConfig(decoder_channels=decoder_channels)
    model = build_weightless(lambda: build_autoencoder(config))
    weights = addressed(model.variables)
    quant = count(v for name, v in weights.items() if name.startswith("quant_conv."))
    post_quant = count(v for name, v in weights.items() if name.startswith("post_quant_conv."))
    assert (quant, post_quant) == (72, 20)
    assert count(model.encoder.variables) == 34_163_592 + quant
    assert count(model.decoder.variables) == expected + post_quant


def test_clip_vit_l_14():
    # OpenAI's ViT-L/14: 427,616,513 parameters with both projections and the logit scale.
    assert parameters(build_clip, ClipConfig()) == 427_616_513
