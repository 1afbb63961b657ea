"""Channels of a UNet that are kept do what they did."""

import numpy as np
import pytest
import tensorflow as tf

from tests.weights.widening import scaled_query, values_of, widened
from tfsnap.config import StageConfig, UNetConfig
from tfsnap.models.unet import build_unet
from tfsnap.weights.slim_unet import slim_unet
from tfsnap.weights.store import assign


def shaped(*widths, groups=4, **fields):
    """Two resolutions, with one attention or two after each ResNet."""
    first, second = widths
    return UNetConfig(
        down=(StageConfig(first, 2, (1, 0)), StageConfig(second, 1, 2)),
        mid=StageConfig(second, 2, (1, 0)),
        up=(StageConfig(second, 2, (0, 1)), StageConfig(first, 3, (0, 1, 0))),
        context_width=6,
        heads=2,
        groups=groups,
        time_width=8,
        **fields,
    )


WIDE, NARROW = shaped(16, 32), shaped(8, 16)


def random_unet(config, seed):
    model, rng = build_unet(config), np.random.default_rng(seed)
    for variable in model.variables:
        variable.assign_add(0.2 * rng.standard_normal(variable.shape))
    return model


@pytest.fixture(scope="module")
def wide():
    return random_unet(WIDE, 0)


def evaluate(model):
    rng = np.random.default_rng(1)
    latent = tf.constant(rng.standard_normal([2, 4, 4, 4]), tf.float32)
    context = tf.constant(rng.standard_normal([2, 3, 6]), tf.float32)
    return model(latent, timesteps=tf.constant([10, 700]), context=context).numpy()


def test_the_narrow_unet_takes_every_weight(wide):
    narrow = build_unet(NARROW)
    found = slim_unet(values_of(wide), wide=WIDE, narrow=NARROW)
    assign(found, narrow.variables)  # Names and shapes are all there, and no more.
    assert np.isfinite(evaluate(narrow)).all()


def test_nothing_changes_where_nothing_is_narrower(wide):
    found = slim_unet(values_of(wide), wide=WIDE, narrow=WIDE)
    for name, value in values_of(wide).items():
        np.testing.assert_array_equal(found[name], value, err_msg=name)


def test_channels_that_do_nothing_are_what_goes():
    """With two channels a group, the first of each pair is kept, as equals keep their order."""
    singles, pairs = shaped(8, 8, groups=8), shaped(16, 16, groups=8)
    small, large = random_unet(singles, 2), build_unet(pairs)
    shapes = {name: value.shape for name, value in values_of(large).items()}
    idle = (".query.", ".key.", ".value.", "forward.up.", "time.in.", "time.out.")
    values = {
        name: widened(value, shapes[name], idle=any(part in name for part in idle))
        for name, value in values_of(small).items()
    }
    for name in filter(lambda name: ".query." in name, shapes):
        values[name] = scaled_query(values[name])
    assign(values, large.variables)
    expected = evaluate(small)
    np.testing.assert_allclose(evaluate(large), expected, atol=1e-4)
    found = slim_unet(values, wide=pairs, narrow=singles)
    for name, value in values_of(small).items():
        np.testing.assert_allclose(found[name], value, atol=1e-6, err_msg=name)


def test_strong_channels_stay_in_their_heads(wide):
    values, at = values_of(wide), "up.0.attentions.1.0.self_attention"
    loud = [0, 3, 5, 6, 8, 9, 12, 15, 17, 18, 20, 22, 25, 28, 30, 31]  # Eight of each head.
    values[f"{at}.value.kernel"][:, loud] *= 10.0
    found = slim_unet(values, wide=WIDE, narrow=NARROW)
    kept = found[f"{at}.out.kernel"]
    assert kept.shape == (16, 16)
    inner = np.square(found[f"{at}.value.kernel"]).sum(axis=0)
    assert inner.min() > 10 * np.square(np.delete(values[f"{at}.value.kernel"], loud, 1)).max()


def test_what_cannot_be_is_refused(wide):
    values = values_of(wide)
    with pytest.raises(
        ValueError,
        match="only the channels of stages and their groups may differ, but context_width",
    ):
        slim_unet(values, wide=WIDE, narrow=NARROW.replace(context_width=8))
    with pytest.raises(ValueError, match=r'but time_width was 8, is 6; add "time_width": 8 to'):
        slim_unet(values, wide=WIDE, narrow=NARROW.replace(time_width=6))
    with pytest.raises(ValueError, match="cannot be kept"):
        slim_unet(values, wide=WIDE, narrow=shaped(16, 64))
    with pytest.raises(ValueError, match="must stay so"):
        slim_unet(values, wide=WIDE, narrow=shaped(16, 16))
    fixed = WIDE.replace(head_width=8)
    with pytest.raises(ValueError, match="fixed width"):
        slim_unet(values, wide=fixed, narrow=fixed)
