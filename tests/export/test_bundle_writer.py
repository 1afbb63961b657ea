import dataclasses
import json
import math
import os

import numpy as np
import pytest
import safetensors.numpy
import tensorflow as tf
from PIL import Image

from tfsnap.export import bundle_writer
from tfsnap.export.bundle_writer import write_bundle
from tfsnap.export.keras_components import keras_pipeline, settings_of
from tfsnap.export.parity import ParityError, psnr_db
from tfsnap.export.publishing import ExportError
from tfsnap.models.clip import build_text_encoder
from tfsnap.models.latent_diffusion import Distilled
from tfsnap.runtime.bundle import Bundle
from tfsnap.runtime.errors import RequestError
from tfsnap.runtime.settings import Sampler
from tfsnap.runtime.text_to_image import TextToImage
from tfsnap.training.sampling import sample_pictures

PROMPT = "thumbs up, dark skin tone"


@pytest.mark.parametrize(("precision", "threshold"), [("fp16", 50.0), ("int8", 25.0)])
def test_a_bundle_draws_what_keras_draws(latent_diffusion, bundles, precision, threshold):
    pipeline = TextToImage(bundles[precision])
    settings = settings_of(latent_diffusion, guidance=2.0, sampler=Sampler(steps=3))
    reference = keras_pipeline(latent_diffusion, pipeline.tokenizer, settings)
    (ours,) = pipeline.generate([PROMPT], seed=5)
    (keras,) = reference.generate([PROMPT], seed=5)
    np.testing.assert_array_equal(ours.noise, keras.noise)
    assert ours.image.shape == (1, 16, 24, 3)
    assert psnr_db(keras.image, ours.image) > threshold
    (other,) = reference.generate([PROMPT], seed=6)
    assert psnr_db(keras.image, other.image) < threshold - 5  # It tells pictures apart.


def test_a_smaller_vocabulary_needs_fewer_merges(latent_diffusion, bundle_spec, tmp_path):
    text = build_text_encoder(latent_diffusion.text_encoder.config.replace(vocab_size=2000))
    small = dataclasses.replace(latent_diffusion, text_encoder=text)
    manifest = write_bundle(small, tmp_path / "small", bundle_spec("fp16"))
    assert (manifest.tokenizer.vocab_size, manifest.format_version) == (2000, 3)
    merges = tmp_path / "small" / manifest.tokenizer.file
    assert merges.stat().st_size < 20_000  # Of 1.4 MB.
    pipeline = TextToImage(tmp_path / "small")
    assert pipeline.tokenizer("")[0, :2].tolist() == [1998, 1999]
    assert pipeline(PROMPT, steps=1).size == (24, 16)


def test_batched_sampling_equals_the_pipeline(latent_diffusion, bundles):
    tokenizer = TextToImage(bundles["fp16"]).tokenizer
    settings = settings_of(latent_diffusion, guidance=2.0, sampler=Sampler(steps=3))
    reference = keras_pipeline(latent_diffusion, tokenizer, settings)
    alone = [reference.generate([PROMPT], seed=seed)[0] for seed in (1, 2)]
    together = sample_pictures(
        latent_diffusion,
        tokens=tokenizer([PROMPT, PROMPT]),
        null_tokens=tokenizer([""])[0],
        steps=3,
        guidance=2.0,
        noise=np.concatenate([one.noise for one in alone]),
    )
    np.testing.assert_allclose(together, np.concatenate([one.image for one in alone]), atol=1e-3)


@pytest.mark.parametrize("mask", [None, Image.new("L", (24, 16), 255)])
def test_a_bundle_with_an_encoder_starts_from_a_picture(latent_diffusion, bundles, mask):
    pipeline = TextToImage(bundles["fp16"])
    settings = settings_of(latent_diffusion, guidance=2.0, sampler=Sampler(steps=4))
    reference = keras_pipeline(latent_diffusion, pipeline.tokenizer, settings)
    pixels = np.random.default_rng(0).integers(0, 256, [16, 24, 3]).astype(np.uint8)
    request = {"image": Image.fromarray(pixels), "mask": mask, "strength": 0.5, "steps": 4}
    (ours,) = pipeline.generate([PROMPT], seed=5, **request)
    (keras,) = reference.generate([PROMPT], seed=5, **request)
    assert psnr_db(keras.image, ours.image) > 50.0
    (text_alone,) = reference.generate([PROMPT], seed=5, steps=4)
    assert psnr_db(keras.image, text_alone.image) < 45.0


def test_a_bundle_without_an_encoder_says_so(bundles):
    with pytest.raises(RequestError, match="This bundle has no encoder, .* with --encoder"):
        TextToImage(bundles["int8"])(PROMPT, image=Image.new("RGB", (24, 16)))


def test_goldens_are_what_the_bundle_generates(bundles):
    bundle = Bundle.open(bundles["int8"])
    goldens = bundle.manifest.goldens
    tensors = safetensors.numpy.load(bundle.read(goldens.file))
    (again,) = TextToImage(bundle).generate(
        [goldens.prompt], steps=goldens.steps, guidance=goldens.guidance, seed=goldens.seed
    )
    assert set(tensors) == set(again._fields)
    for name, tensor in tensors.items():
        np.testing.assert_allclose(getattr(again, name), tensor, atol=1e-4, err_msg=name)


def test_the_manifest_tells_size_parity_and_origin(latent_diffusion, bundles):
    for precision, path in bundles.items():
        manifest = json.loads((path / "manifest.json").read_text())
        assert manifest["precision"] == precision
        assert manifest["latent"] == {"shape": [8, 12, 4], "scale": 0.8}
        for name, component in manifest["components"].items():
            assert component["bytes"] == os.path.getsize(path / component["file"])
            assert component["parity"]["psnr_db"] >= component["parity"]["threshold_db"], name
        assert manifest["provenance"]["interpreter"].startswith("ai_edge_litert 2.")
        parameters = manifest["provenance"]["parameters"]
        assert parameters["unet"] == latent_diffusion.unet.count_params()


def test_int8_is_smaller(bundles):
    sizes = {p: os.path.getsize(path / "unet.tflite") for p, path in bundles.items()}
    assert sizes["int8"] < sizes["fp16"]


def test_a_component_that_differs_stops_the_export(latent_diffusion, bundle_spec, tmp_path):
    with pytest.raises(ParityError, match=r"exported text_encoder differs.*wanted are\s+200\.0 dB"):
        write_bundle(latent_diffusion, tmp_path / "b", bundle_spec("int8", min_psnr_db=200.0))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"sampler": Sampler("lcm", 60)},
            r"steps is 60; it must be between 1 and 50 \(sampler lcm",
        ),
        ({"guidance": 7.0}, "--guidance is 7, and 3 is baked into this UNet: leave --guidance out"),
    ],
)
def test_defaults_that_no_reader_could_draw_with(
    latent_diffusion, bundle_spec, tmp_path, changes, message
):
    baked = dataclasses.replace(latent_diffusion, distilled=Distilled(4, guidance=3.0))
    with pytest.raises(ValueError, match=message):
        write_bundle(baked, tmp_path / "b", bundle_spec("fp16", **{"guidance": None, **changes}))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"min_psnr_db": math.nan}, "min_psnr is nan; it must be a finite number of dB"),
        ({"min_psnr_db": -math.inf}, "min_psnr is -inf; it must be a finite number of dB"),
        ({"sampler": Sampler("pndm")}, r"sampler.default is 'pndm'; in a bundle it must be one of"),
        ({"sampler": Sampler(spacing="default")}, r"sampler.spacing is 'default'; in a bundle it"),
    ],
)
def test_what_no_bundle_can_say(bundle_spec, changes, message):
    with pytest.raises(ValueError, match=message):
        bundle_spec("fp16", **changes)


def test_networks_that_are_equal_to_keras(latent_diffusion, bundle_spec, tmp_path, monkeypatch):
    monkeypatch.setattr(bundle_writer, "check_parity", lambda *a, **k: math.inf)
    write_bundle(latent_diffusion, tmp_path / "b", bundle_spec("int8"))
    text = (tmp_path / "b" / "manifest.json").read_text()
    components = json.loads(text, parse_constant=pytest.fail)["components"]
    assert {c["parity"]["psnr_db"] for c in components.values()} == {999.0}


def test_a_failed_export_leaves_the_old_bundle(
    latent_diffusion, bundle_spec, bundles, tmp_path, monkeypatch
):
    old = tmp_path / "bundle"
    bundles["int8"].rename(old)  # Lent, not copied: it goes back below.
    try:

        def broken(graph, precision):
            raise tf.errors.ResourceExhaustedError(None, None, "no memory")

        monkeypatch.setattr(bundle_writer, "convert", broken)
        with pytest.raises(tf.errors.ResourceExhaustedError):
            write_bundle(latent_diffusion, old, bundle_spec("fp16"))
        assert Bundle.open(old).manifest.precision == "int8"
        assert [path.name for path in tmp_path.iterdir()] == ["bundle"]
    finally:
        old.rename(bundles["int8"])


def test_a_folder_that_is_no_bundle_is_not_replaced(latent_diffusion, bundle_spec, tmp_path):
    (tmp_path / "thesis.txt").write_text("years of work")
    with pytest.raises(ExportError, match="not a bundle"):
        write_bundle(latent_diffusion, tmp_path, bundle_spec("fp16"))
    assert (tmp_path / "thesis.txt").exists()
