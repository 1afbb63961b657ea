"""One file, several sizes, chunks and guidance in one call: the bundle draws what Keras draws."""

import dataclasses
import json

import numpy as np
import pytest
from PIL import Image

from tests.runtime.processes import INTERPRETERS, run_code
from tfsnap.export.bundle_writer import write_bundle
from tfsnap.export.delegate import check_on_gpu
from tfsnap.export.keras_components import keras_pipeline, settings_of
from tfsnap.export.parity import psnr_db
from tfsnap.models.latent_diffusion import Distilled
from tfsnap.runtime.bundle import Bundle
from tfsnap.runtime.errors import RequestError
from tfsnap.runtime.interpreter import load
from tfsnap.runtime.settings import Sampler
from tfsnap.runtime.text_to_image import TextToImage

PROMPT = "thumbs up, dark skin tone"
SHAPES = ((16, 16), (38, 18))  # The second has latents of odd sides.


@pytest.fixture(scope="module")
def bundle(latent_diffusion, bundle_spec, session_dir):
    """Path of a bundle that has everything."""
    path = session_dir / "all.tfsnap"
    spec = bundle_spec("fp16", encoder=True, shapes=SHAPES, chunks=2, guidance_batch=True)
    write_bundle(latent_diffusion, path, spec)
    return path


def keras(latent_diffusion, tokenizer, shape):
    resized = dataclasses.replace(latent_diffusion, resolution=shape)
    settings = settings_of(resized, guidance=2.0, sampler=Sampler(steps=3))
    return keras_pipeline(resized, tokenizer, settings)


@pytest.mark.parametrize("shape", SHAPES)
def test_every_size_is_what_keras_draws(latent_diffusion, bundle, shape):
    pipeline = TextToImage(bundle, size=shape, low_memory=shape == SHAPES[1])
    assert pipeline.components.image_shape == (*shape, 3)
    reference = keras(latent_diffusion, pipeline.tokenizer, shape)
    pixels = np.random.default_rng(0).integers(0, 256, [*shape, 3]).astype(np.uint8)
    source = {"image": Image.fromarray(pixels), "strength": 0.7}
    for request in ({"guidance": 3.0}, {"guidance": 1.0}, source):
        (ours,) = pipeline.generate([PROMPT], seed=5, **request)
        (wanted,) = reference.generate([PROMPT], seed=5, **request)
        assert ours.image.shape == (1, *shape, 3)
        assert psnr_db(wanted.image, ours.image) > 50.0, request


def test_the_first_size_is_the_default(bundle):
    assert TextToImage(bundle).components.image_shape == (16, 16, 3)
    with pytest.raises(RequestError, match=r"of 16x16, 38x18 pixels .*, not 24x16: choose"):
        TextToImage(bundle, size=(24, 16))


def test_guidance_is_one_call_of_the_unet(bundle):
    pipeline = TextToImage(bundle)
    unet, calls = pipeline.components._unet, []
    pipeline.components._unet = lambda **arrays: (
        calls.append(len(arrays["context"])) or unet(**arrays)
    )
    pipeline(PROMPT, steps=4)
    assert calls == [2, 2, 2, 2]


GENERATE = """
import json, sys
from tfsnap.runtime import TextToImage

found = []
for low_memory in (False, True):
    model = TextToImage(sys.argv[1], size=(38, 18), low_memory=low_memory)
    found.append(model.generate([sys.argv[2]], seed=3, steps=2)[0].image.ravel().tolist())
print(json.dumps(found))
"""


def test_both_interpreters_draw_it(latent_diffusion, bundle):
    tokenizer = Bundle.open(bundle).tokenizer()
    reference = keras(latent_diffusion, tokenizer, SHAPES[1])
    (wanted,) = reference.generate([PROMPT], seed=3, steps=2)
    for interpreter in INTERPRETERS:
        kept, freed = run_code(GENERATE, bundle, PROMPT, interpreter=interpreter)
        assert kept == freed
        assert psnr_db(wanted.image.ravel(), np.array(kept)) > 50.0


def test_the_manifest_says_what_there_is(bundle):
    opened = Bundle.open(bundle)
    manifest = opened.manifest
    assert manifest.format_version == 2
    assert [size.name for size in manifest.sizes] == ["16x16", "38x18"]
    assert manifest.contexts == 2
    files = [part.file for part in manifest.components["unet"].files]
    assert files == ["unet.0.tflite", "unet.1.tflite"]
    assert json.loads(opened.read("manifest.json"))["goldens"]["guidance"] == 2.0


def test_a_plain_bundle_stays_version_1(bundles):
    for path in bundles.values():
        values = json.loads((path / "manifest.json").read_text())
        assert values["format_version"] == 1
        assert "sizes" not in values
        assert "chunks" not in values["components"]["unet"]


def test_chunks_of_two_contexts_run_whole_on_the_gpu(bundle):
    opened = Bundle.open(bundle).at(*SHAPES[1])
    rng = np.random.default_rng(0)
    known = {
        tensor.name: rng.standard_normal(tensor.shape).astype(np.float32)
        for tensor in opened.component("unet").inputs
    }
    for part in opened.component("unet").files:
        with opened.lend("unet", part.file) as path:
            network = load(path, name="chunk", signature=opened.signature_of("unet"))
            inputs = {tensor.name: known[tensor.name] for tensor in network.inputs}
            report = check_on_gpu(path, inputs)
        assert report.passed, report
        known |= network(**inputs)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"shapes": ((16, 15),)}, "--shape is 16x15; both sides must be positive multiples of 2"),
        ({"shapes": ((16, 24), (16, 24))}, "--shape is given twice"),
    ],
)
def test_what_cannot_be_exported(latent_diffusion, bundle_spec, tmp_path, changes, message):
    with pytest.raises(ValueError, match=message):
        write_bundle(latent_diffusion, tmp_path / "b", bundle_spec("fp16", **changes))
    assert not list(tmp_path.iterdir())


def test_baked_guidance_has_no_second_context(latent_diffusion, bundle_spec, tmp_path):
    baked = dataclasses.replace(latent_diffusion, distilled=Distilled(4, guidance=3.0))
    spec = bundle_spec("fp16", guidance=None, guidance_batch=True)
    with pytest.raises(ValueError, match="one evaluation a step: leave out --guidance_batch"):
        write_bundle(baked, tmp_path / "b", spec)
