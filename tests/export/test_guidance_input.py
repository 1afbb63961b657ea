"""A consistency model that reads the guidance scale, from Keras to a bundle."""

import dataclasses

import numpy as np
import pytest

from tests.export.conftest import randomise
from tfsnap.export.bundle_writer import write_bundle
from tfsnap.export.keras_components import keras_pipeline, settings_of
from tfsnap.export.parity import psnr_db
from tfsnap.models.latent_diffusion import Distilled
from tfsnap.models.unet import build_unet
from tfsnap.runtime.bundle import Bundle
from tfsnap.runtime.errors import RequestError
from tfsnap.runtime.philox import normal
from tfsnap.runtime.settings import Guidance, Sampler
from tfsnap.runtime.text_to_image import TextToImage
from tfsnap.training.sampling import sample_pictures

PROMPT, WIDTH = "thumbs up", 16


@pytest.fixture(scope="module")
def reading(latent_diffusion):
    unet = build_unet(latent_diffusion.unet.config.replace(guidance_width=WIDTH))
    randomise(unet, 1)
    kernel = unet.time_guidance.kernel
    kernel.assign(np.random.default_rng(2).standard_normal(kernel.shape))
    return dataclasses.replace(latent_diffusion, unet=unet, distilled=Distilled(3, None, "lcm"))


@pytest.fixture(scope="module")
def bundle(reading, bundle_spec, tmp_path_factory):
    path = tmp_path_factory.mktemp("reading") / "bundle"
    write_bundle(
        reading, path, bundle_spec("fp16", sampler=Sampler(reading.sampler, reading.steps))
    )
    return Bundle.open(path)


def test_a_bundle_says_that_its_unet_reads_the_scale(bundle):
    assert bundle.manifest.guidance == Guidance(baked_in=False, default=2.0, width=WIDTH)
    assert bundle.manifest.sampler == Sampler("lcm", steps=3)
    inputs = {tensor.name: tensor.shape for tensor in bundle.component("unet").inputs}
    assert inputs["guidance_features"] == (1, 1, WIDTH)


def test_a_bundle_draws_what_keras_draws_at_the_scale_that_is_chosen(reading, bundle):
    pipeline = TextToImage(bundle)
    settings = settings_of(reading, guidance=2.0, sampler=bundle.manifest.sampler)
    reference = keras_pipeline(reading, pipeline.tokenizer, settings)
    (ours,) = pipeline.generate([PROMPT], seed=5, guidance=3.5)
    (keras,) = reference.generate([PROMPT], seed=5, guidance=3.5)
    assert psnr_db(keras.image, ours.image) > 50.0
    (other,) = pipeline.generate([PROMPT], seed=5, guidance=3.0)
    assert psnr_db(ours.image, other.image) < 45.0
    batched = sample_pictures(
        reading,
        tokens=pipeline.tokenizer([PROMPT]),
        null_tokens=pipeline.tokenizer([""])[0],
        steps=3,
        guidance=3.5,
        noise=keras.noise,
        step_noise=lambda k: normal(5, keras.noise.shape, stream=k + 1),
    )
    np.testing.assert_allclose(batched, keras.image, atol=1e-3)
    with pytest.raises(RequestError, match="leave out the negative prompt"):
        pipeline(PROMPT, negative_prompt="blurry")
