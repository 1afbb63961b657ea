"""Channels that are kept do what they did."""

import numpy as np
import pytest
import tensorflow as tf

from tests.weights.widening import scaled_query, values_of, widened
from tfsnap.config import AutoencoderConfig
from tfsnap.models.autoencoder import build_autoencoder
from tfsnap.weights.slim_decoder import slim_decoder
from tfsnap.weights.store import assign

WIDE = AutoencoderConfig(channels=(16, 32, 32), groups=4, resnets=1)
NARROW = WIDE.replace(decoder_channels=(8, 16, 16))


@pytest.fixture(scope="module")
def wide():
    model, rng = build_autoencoder(WIDE), np.random.default_rng(0)
    for variable in model.variables:
        variable.assign_add(0.1 * rng.standard_normal(variable.shape))
    return model


def test_the_narrow_decoder_takes_every_weight(wide):
    narrow = build_autoencoder(NARROW)
    found = slim_decoder(values_of(wide), wide=WIDE, narrow=NARROW)
    assign(found, narrow.variables)  # Names and shapes are all there, and no more.
    for name, value in values_of(wide).items():
        if not name.startswith("decoder."):
            np.testing.assert_array_equal(found[name], value)


def test_nothing_changes_where_nothing_is_narrower(wide):
    found = slim_decoder(values_of(wide), wide=WIDE, narrow=WIDE)
    for name, value in values_of(wide).items():
        np.testing.assert_array_equal(found[name], value, err_msg=name)


def test_channels_that_do_nothing_are_what_goes():
    """With two channels a group, the first of each pair is kept, as equals keep their order."""
    pairs = AutoencoderConfig(channels=(16, 16), groups=8, resnets=1)
    singles = pairs.replace(decoder_channels=(8, 8))
    narrow, repeating = build_autoencoder(singles), build_autoencoder(pairs)
    rng = np.random.default_rng(1)
    for variable in narrow.variables:
        variable.assign_add(0.1 * rng.standard_normal(variable.shape))
    shapes = {name: value.shape for name, value in values_of(repeating).items()}
    values = {
        name: widened(value, shapes[name], idle=".attention.query." in name)
        for name, value in values_of(narrow).items()
    }
    for name in (f"decoder.mid.attention.query.{kind}" for kind in ("kernel", "bias")):
        values[name] = scaled_query(values[name])
    assign(values, repeating.variables)
    latent = rng.standard_normal([1, 3, 4, 4]).astype(np.float32)
    expected = narrow.decoder(latent).numpy()
    np.testing.assert_allclose(repeating.decoder(latent), expected, atol=1e-4)
    found = slim_decoder(values, wide=pairs, narrow=singles)
    for variable in narrow.variables:
        variable.assign(tf.zeros_like(variable))
    assign(found, narrow.variables)
    np.testing.assert_allclose(narrow.decoder(latent), expected, atol=1e-4)


def test_strong_channels_stay(wide):
    values = values_of(wide)
    inner = "decoder.mid.resnets.0"
    loud = [1, 3, 9, 15, 16, 23, 24, 31, 2, 4, 8, 14, 17, 22, 25, 30]  # Four of each eight.
    values[f"{inner}.conv1.kernel"][..., loud] *= 10.0
    found = slim_decoder(values, wide=WIDE, narrow=NARROW)
    expected = values[f"{inner}.norm2.gamma"][sorted(loud)]
    np.testing.assert_array_equal(found[f"{inner}.norm2.gamma"], expected)


def test_what_cannot_be_is_refused(wide):
    values = values_of(wide)
    with pytest.raises(ValueError, match="only decoder_channels may differ"):
        slim_decoder(values, wide=WIDE, narrow=NARROW.replace(resnets=2))
    with pytest.raises(ValueError, match="cannot be kept"):
        slim_decoder(values, wide=WIDE, narrow=WIDE.replace(decoder_channels=(16, 64, 64)))
    with pytest.raises(ValueError, match="must stay so"):
        slim_decoder(values, wide=WIDE, narrow=WIDE.replace(decoder_channels=(8, 8, 16)))
