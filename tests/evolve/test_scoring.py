"""Scores of pictures, and a network without a block, made of the layers of the one with it."""

import numpy as np
import pytest
import tensorflow as tf

from tests.evolve.test_actions import CONFIG
from tests.small_unet import randomised_unet
from tests.training.latent_job import AUTOENCODER, CLIP, LENGTH
from tests.training.tiny_job import UNET
from tfsnap.diffusion.schedule import NoiseSchedule
from tfsnap.evolve.actions import REMOVE, Action, apply, possible
from tfsnap.evolve.carry import carry
from tfsnap.evolve.scoring import Prompts, Scorer, share
from tfsnap.metrics.features import clip_space
from tfsnap.models.autoencoder import build_autoencoder
from tfsnap.models.clip import build_clip
from tfsnap.models.latent_diffusion import LatentDiffusion
from tfsnap.models.unet import build_unet
from tfsnap.training.pictures import to_uint8
from tfsnap.training.sampling import guided, sample_pictures
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


@pytest.fixture(scope="module")
def model():
    """Networks that nobody trained; CLIP takes pictures of 8 x 8."""
    clip = build_clip(CLIP)
    return LatentDiffusion(
        text_encoder=clip.text_encoder,
        unet=randomised_unet(UNET),
        autoencoder=build_autoencoder(AUTOENCODER),
        schedule=NoiseSchedule(),
        prediction="v",
        resolution=(16, 16),
        clip=clip,
    )


def drawing(model):
    """What a few pictures of 16 x 16 are drawn from."""
    rng = np.random.default_rng(0)
    return {
        "tokens": rng.integers(0, 32, [3, LENGTH]).astype(np.int32),
        "null_tokens": np.zeros(LENGTH, np.int32),
        "noise": rng.standard_normal([3, *model.latent_shape]).astype(np.float32),
    }


def test_pictures_of_another_size_are_resized_as_for_the_clip_score(model):
    scorer, prompts = Scorer(model, 1, 3.0), Prompts.make(model, **drawing(model))
    found = scorer.scores(scorer.prepare(model.unet), prompts)
    pictures = sample_pictures(model, steps=1, guidance=3.0, **drawing(model))
    assert pictures.shape[1:3] == (16, 16)
    embedded = clip_space(model.clip).embed(to_uint8(pictures))
    np.testing.assert_allclose(found, np.sum(embedded * prompts.embeddings, axis=1), atol=1e-5)


def test_a_picture_that_is_not_finite_has_no_score(model):
    told = drawing(model)
    told["noise"][1, 0, 0, 0] = np.nan
    scorer, prompts = Scorer(model, 1, 3.0), Prompts.make(model, **told)
    found = scorer.scores(scorer.prepare(model.unet), prompts)
    np.testing.assert_array_equal(np.isnan(found), [False, True, False])
