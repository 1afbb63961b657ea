"""The features of a scale are those of training, and of latent consistency models."""

import numpy as np
import pytest
import torch
from diffusers import LatentConsistencyModelPipeline

from tfsnap.models import unet
from tfsnap.runtime.guidance_features import guidance_features


@pytest.mark.parametrize("scale", [0.0, 1.0, 1.5, 7.5, 14.0])
@pytest.mark.parametrize("width", [4, 256])
def test_they_are_those_of_training_and_of_diffusers(scale, width):
    features = guidance_features(scale, width=width)
    assert features.shape == (1, 1, width) and features.dtype == np.float32
    trained = unet.guidance_features(np.array([scale]), width).numpy()
    theirs = LatentConsistencyModelPipeline.get_guidance_scale_embedding(
        None, torch.tensor([scale]) - 1, width
    ).numpy()
    # Both compute angles of up to 13,000 radians in float32.
    np.testing.assert_allclose(features, trained, atol=4e-3)
    np.testing.assert_allclose(features[0], theirs, atol=4e-3)


def test_no_guidance_is_the_same_for_every_frequency():
    np.testing.assert_array_equal(guidance_features(1.0, width=6), [[[0, 0, 0, 1, 1, 1]]])
