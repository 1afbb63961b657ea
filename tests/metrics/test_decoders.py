import dataclasses

import numpy as np
import pytest

from tfsnap.config import AutoencoderConfig, TinyDecoderConfig
from tfsnap.diffusion.schedule import NoiseSchedule
from tfsnap.metrics.decoders import compare_decoder, decode, encode
from tfsnap.metrics.reconstruction import psnr, reconstruction, ssim
from tfsnap.models.autoencoder import build_autoencoder
from tfsnap.models.latent_diffusion import LatentDiffusion
from tfsnap.models.weightless import build_weightless

SMALL = AutoencoderConfig(channels=(8, 16), groups=4, resnets=1)
TINY = SMALL.replace(tiny_decoder=TinyDecoderConfig(channels=(4, 8), blocks=(1, 1)))


@pytest.fixture(scope="module")
def teacher():
    return build_autoencoder(SMALL)


@pytest.fixture(scope="module")
def images():
    return np.random.default_rng(0).uniform(-1.0, 1.0, [18, 12, 16, 3]).astype(np.float32)


def test_the_teacher_is_its_own_image(teacher, images):
    found = compare_decoder(teacher, teacher=teacher, images=images)
    assert found.to_teacher.ssim == pytest.approx(1.0)
    assert found.to_teacher.psnr > 100
    assert found.to_image.psnr == pytest.approx(reconstruction(teacher, images).psnr, rel=1e-3)


def test_a_student_is_compared_on_the_latents_that_are_given(teacher, images):
    student = build_autoencoder(TINY)  # Its encoder is another, and is not asked.
    latents = np.random.default_rng(1).standard_normal([5, 6, 8, 4]).astype(np.float32)
    found = compare_decoder(student, teacher=teacher, images=images, latents=latents)
    pair = {"originals": decode(teacher, latents), "decoded": decode(student, latents)}
    assert found.to_teacher.psnr == pytest.approx(psnr(**pair).mean())
    assert found.to_teacher.ssim == pytest.approx(ssim(**pair).mean())
    pair = {"originals": images, "decoded": decode(student, encode(teacher, images))}
    assert found.to_image.psnr == pytest.approx(psnr(**pair).mean())
    assert found.to_image.ssim == pytest.approx(ssim(**pair).mean())


def test_decoders_of_other_latents_are_refused(teacher, images):
    other = build_autoencoder(SMALL.replace(scale=0.5))
    with pytest.raises(
        ValueError, match="differ in more than the decoder: scale was 0.18215, is 0.5"
    ):
        compare_decoder(other, teacher=teacher, images=images)
    latents = np.zeros([2, 6, 8, 3], np.float32)
    with pytest.raises(ValueError, match=r"\[2, 6, 8, 3\] do not fit: .* 4 channels"):
        compare_decoder(teacher, teacher=teacher, images=images, latents=latents)


@pytest.mark.parametrize(
    ("other", "message"),
    [
        (
            dataclasses.replace(TINY, channels=(16, 32), decoder_channels=None),
            r"channels was \[8, 16\], is \[16, 32\]",
        ),
        (AutoencoderConfig(channels=(8, 16, 16), groups=4, resnets=1), "channels was"),
    ],
)
def test_no_decoder_of_another_kind_is_taken(teacher, other, message):
    """Of another width or depth, with which no config of both would be valid."""
    model = LatentDiffusion(None, None, teacher, NoiseSchedule(), "epsilon", (16, 16))
    other = build_weightless(lambda: build_autoencoder(other))
    with pytest.raises(
        ValueError, match=f"is of another kind, in more than the decoder: {message}"
    ):
        model.with_decoder_of(other)
    tiny = build_weightless(lambda: build_autoencoder(TINY))
    assert model.with_decoder_of(tiny).autoencoder is tiny
