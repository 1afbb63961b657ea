import numpy as np
import pytest
import tensorflow as tf
from numpy.lib.stride_tricks import sliding_window_view

from tfsnap.config import AutoencoderConfig
from tfsnap.metrics.reconstruction import psnr, reconstruction, ssim
from tfsnap.models.autoencoder import build_autoencoder

SMALL = AutoencoderConfig(channels=(8, 8, 16), groups=4, resnets=1)


def pictures(*shape):
    return np.random.default_rng(0).uniform(-1.0, 1.0, shape).astype(np.float32)


def test_psnr_of_a_constant_error_is_known():
    originals = np.zeros([3, 4, 4, 3], np.float32)
    errors = np.array([0.2, 0.02, 2.0], np.float32)
    decoded = originals + errors[:, np.newaxis, np.newaxis, np.newaxis]
    # A tenth, a hundredth and the whole of the range of 2.
    np.testing.assert_allclose(psnr(originals=originals, decoded=decoded), [20, 40, 0], atol=1e-5)


def test_psnr_is_tensorflows():
    originals, decoded = pictures(2, 5, 8, 8, 3)
    expected = tf.image.psnr(originals, decoded, max_val=2.0).numpy()
    np.testing.assert_allclose(psnr(originals=originals, decoded=decoded), expected, rtol=1e-5)


def test_equal_pictures_have_a_finite_psnr():
    originals = pictures(2, 4, 4, 3)
    found = psnr(originals=originals, decoded=originals)
    np.testing.assert_allclose(found, 10 * np.log10(4e10))


def ssim_of_wang(one, other):
    """Equations 14 to 16 and 13 of Wang et al. 2004, window by window in float64, of 255 levels."""
    places = np.arange(11) - 5.0
    bell = np.exp(-np.square(places) / (2 * 1.5**2))
    weights = np.outer(bell, bell) / bell.sum() ** 2
    levels = ((picture.astype(np.float64) + 1.0) * 127.5 for picture in (one, other))
    x, y = (sliding_window_view(part, (11, 11), (1, 2)) for part in levels)

    def mean(values):  # [N, H', W', C, 11, 11] to [N, H', W', C]
        return (values * weights).sum(axis=(-2, -1))

    at_x, at_y = mean(x), mean(y)
    x, y = x - at_x[..., None, None], y - at_y[..., None, None]
    c1, c2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2
    brightness = (2 * at_x * at_y + c1) / (at_x**2 + at_y**2 + c1)
    structure = (2 * mean(x * y) + c2) / (mean(x**2) + mean(y**2) + c2)
    return (brightness * structure).mean(axis=(1, 2, 3))


@pytest.mark.parametrize("noise", [0.05, 0.5])
def test_ssim_is_wangs(noise):
    smooth = pictures(19, 3, 4, 3).repeat(6, axis=1).repeat(6, axis=2)  # More than a batch.
    decoded = np.clip(smooth + noise * pictures(*smooth.shape)[::-1], -1.0, 1.0)
    found = ssim(originals=smooth, decoded=decoded)
    np.testing.assert_allclose(found, ssim_of_wang(smooth, decoded), atol=1e-4)
    np.testing.assert_allclose(ssim(originals=smooth, decoded=smooth), 1.0, atol=1e-6)


def test_a_grey_a_little_brighter_is_nearly_the_same():
    grey = np.zeros([1, 16, 16, 3], np.float32)
    found = ssim(originals=grey + 0.02, decoded=grey - 0.02)
    brightness = (2 * 1.02 * 0.98 + 4e-4) / (1.02**2 + 0.98**2 + 4e-4)  # Above 0.999.
    np.testing.assert_allclose(found, brightness, atol=3e-4)


def test_ssim_needs_its_window():
    with pytest.raises(ValueError, match="10 x 16 pixels are too small for SSIM, which needs 11"):
        ssim(originals=pictures(1, 10, 16, 3), decoded=pictures(1, 10, 16, 3))


def test_reconstruction_is_the_mean_over_pictures_and_clips():
    model = build_autoencoder(SMALL)
    for variable in model.decoder.trainable_variables:  # Outputs that leave [-1, 1].
        variable.assign(4.0 * variable + 0.1)
    images = pictures(19, 16, 16, 3)  # More than a batch, and not a multiple of it.
    decoded = model(images).numpy()
    assert np.abs(decoded).max() > 1.0
    expected = tf.image.psnr(images, np.clip(decoded, -1.0, 1.0), max_val=2.0).numpy()
    found = reconstruction(model, images)
    assert found.psnr == pytest.approx(expected.mean(), rel=1e-3)
    assert found.count == 19
    assert str(found) == f"PSNR {expected.mean():.1f} dB of 19 pictures"


def test_pictures_that_do_not_fit_are_refused():
    with pytest.raises(ValueError, match="18 x 16 pixels .* multiples of 4"):
        reconstruction(build_autoencoder(SMALL), pictures(1, 18, 16, 3))
