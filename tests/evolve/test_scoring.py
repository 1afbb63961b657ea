"""A network without a block, made of the layers of the network with it."""

import numpy as np
import pytest
import tensorflow as tf

from tests.evolve.test_actions import CONFIG
from tests.small_unet import randomised_unet
from tfsnap.evolve.actions import REMOVE, Action, apply, possible
from tfsnap.evolve.carry import carry
from tfsnap.evolve.scoring import share
from tfsnap.models.unet import build_unet
from tfsnap.training.sampling import guided
from tfsnap.weights.store import addressed, assign

REMOVALS = possible(CONFIG, verbs=(REMOVE,))


@pytest.fixture(scope="module")
def unet():
    return randomised_unet(CONFIG)


def inputs():
    rng = np.random.default_rng(0)
    return (
        tf.constant(rng.standard_normal([2, 8, 8, 4], np.float32)),
        tf.constant(500.0),
        tf.constant(rng.standard_normal([4, 5, 6], np.float32)),
    )


@pytest.mark.parametrize("action", REMOVALS[::3], ids=str)
def test_it_computes_what_the_edited_network_computes(unet, action):
    edited = apply(CONFIG, action)
    values = {name: v.numpy() for name, v in addressed(unet.variables).items()}
    built = build_unet(edited.config)
    assign(carry(values, edited), built.variables)
    shared = share(unet, edited)
    expected = guided(built, 3.0)(*inputs())
    np.testing.assert_allclose(guided(shared, 3.0)(*inputs()), expected, atol=1e-5)
    whole = guided(unet, 3.0)(*inputs())
    assert np.abs(whole - expected).max() > 1e-3  # The block did something.
    mine = {id(variable) for variable in unet.variables}
    assert all(id(variable) in mine for variable in shared.variables)


def test_what_is_added_cannot_be_shared(unet):
    edited = apply(CONFIG, Action("add", "attention", "mid", 0, 1))
    with pytest.raises(ValueError, match=r"mid.attentions.0.1 is new"):
        share(unet, edited)
