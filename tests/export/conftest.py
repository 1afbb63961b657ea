"""A small model with random weights, and its bundles, made once."""

import numpy as np
import pytest
import tf_keras as keras

from tfsnap.config import (
    AutoencoderConfig,
    ClipTextConfig,
    StageConfig,
    UNetConfig,
)
from tfsnap.data.fetch import fetch_merges
from tfsnap.diffusion.schedule import NoiseSchedule
from tfsnap.export.bundle_writer import BundleSpec, write_bundle
from tfsnap.models.autoencoder import build_autoencoder
from tfsnap.models.clip import build_text_encoder
from tfsnap.models.latent_diffusion import LatentDiffusion
from tfsnap.models.unet import build_unet
from tfsnap.runtime.settings import Sampler


def randomise(model, seed):
    """Moves every weight, so that no output is zero and no block the identity."""
    rng = np.random.default_rng(seed)
    for variable in model.variables:
        variable.assign_add(0.05 * rng.standard_normal(variable.shape))


@pytest.fixture(scope="session")
def latent_diffusion():
    """Every kind of block, non-square pictures."""
    keras.utils.set_random_seed(0)
    unet = UNetConfig(
        down=(StageConfig(32, 1, 0), StageConfig(64, 1, 2)),
        mid=StageConfig(64, 1, 1),
        up=(StageConfig(64, 2, (1, 0)), StageConfig(32, 2, 0)),
        context_width=32,
        heads=4,
        groups=8,
    )
    text = ClipTextConfig(context_length=12, width=32, layers=2, heads=2)
    autoencoder = AutoencoderConfig(channels=(16, 32), groups=8, resnets=1, scale=0.8)
    model = LatentDiffusion(
        text_encoder=build_text_encoder(text),
        unet=build_unet(unet),
        autoencoder=build_autoencoder(autoencoder),
        schedule=NoiseSchedule(),
        prediction="v",
        resolution=(16, 24),
    )
    for seed, network in enumerate((model.text_encoder, model.unet, model.autoencoder)):
        randomise(network, seed)
    return model


@pytest.fixture(scope="session")
def bundle_spec():
    """A spec by precision."""

    def spec(precision, **changes):
        fields = {
            "name": "test",
            "precision": precision,
            "merges": fetch_merges(),
            "prompt": "red apple, noto style",
            "sampler": Sampler(steps=3),
            "guidance": 2.0,
        }
        return BundleSpec(**(fields | changes))

    return spec


@pytest.fixture(scope="session")
def bundles(latent_diffusion, bundle_spec, session_dir):
    """Paths of an fp16 bundle, which has the encoder, and an int8 one."""
    for precision in ("fp16", "int8"):
        spec = bundle_spec(precision, encoder=precision == "fp16")
        write_bundle(latent_diffusion, session_dir / precision, spec)
    return {precision: session_dir / precision for precision in ("fp16", "int8")}
