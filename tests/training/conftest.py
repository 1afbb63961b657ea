"""Random pictures, networks that nobody trained, and a cache of the latents that they make."""

import numpy as np
import pytest
import tf_keras as keras

from tests.training.latent_job import AUTOENCODER, CLIP, LENGTH, PICTURES, SIDE, VARIANTS, job_of
from tfsnap.data.examples import Examples
from tfsnap.models.autoencoder import build_autoencoder
from tfsnap.models.clip import build_clip
from tfsnap.training.jobs import encoding, unet
from tfsnap.training.jobs.encoding import encode_latents
from tfsnap.training.jobs.inputs import Captioned
from tfsnap.weights.archive import describe
from tfsnap.weights.store import save_weights


@pytest.fixture(scope="module")
def pictures():
    rng = np.random.default_rng(0)
    examples = Examples(
        images=rng.integers(0, 256, [PICTURES, SIDE, SIDE, 3], dtype=np.uint8),
        captions=(("a",) * VARIANTS,) * PICTURES,
        groups=rng.integers(0, 3, PICTURES).astype(np.int32),
        group_names=("x", "y", "z"),
        keys=tuple(map(str, range(PICTURES))),
    )
    tokens = rng.integers(0, 32, [PICTURES, VARIANTS, LENGTH]).astype(np.int32)
    return Captioned(examples, tokens, np.array([30, 31, 0, 0], np.int32), tokenizer=None)


@pytest.fixture
def small_data(pictures, monkeypatch):
    """What the data set would give; small shards, so that there are several."""
    monkeypatch.setattr(unet, "captioned_shapes", lambda *arguments: {(SIDE, SIDE): pictures})
    monkeypatch.setattr(encoding, "_SHARD_PICTURES", 6)


@pytest.fixture(scope="module")
def networks(tmp_path_factory):
    """Weight files of networks that nobody trained."""
    folder = tmp_path_factory.mktemp("networks")
    keras.utils.set_random_seed(0)
    for model in (build_autoencoder(AUTOENCODER), build_clip(CLIP)):
        save_weights(folder / model.name, model.variables, metadata=describe(model))
    return folder


@pytest.fixture(scope="module")
def cache(networks, pictures, tmp_path_factory):
    """A cache of the pictures as they are."""
    folder = tmp_path_factory.mktemp("cache") / "plain"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(unet, "captioned_shapes", lambda *arguments: {(SIDE, SIDE): pictures})
        patch.setattr(encoding, "_SHARD_PICTURES", 6)
        encode_latents(job_of(networks), folder)
    return folder
