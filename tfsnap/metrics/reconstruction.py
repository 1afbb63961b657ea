"""How much of a picture is left after the autoencoder?"""

import dataclasses

import numpy as np
import tensorflow as tf

from tfsnap.metrics.batches import in_batches
from tfsnap.models.autoencoder import Autoencoder

_BATCH = 16
_RANGE = 2.0  # Peak to peak, of [-1, 1].
_WINDOW = 11  # Side of SSIM's, in pixels.
_LEAST_ERROR = 1e-10  # Of equal pictures, as in training: 106 dB, and not infinitely many.


@dataclasses.dataclass(frozen=True)
class Reconstruction:
    """How well pictures come back from their latents.

    Attributes:
      psnr: mean over the pictures of their peak signal-to-noise ratio, dB.
      count: number of pictures.
    """

    psnr: float
    count: int

    def __str__(self) -> str:
        return f"PSNR {self.psnr:.1f} dB of {self.count} pictures"


def psnr(*, originals: np.ndarray, decoded: np.ndarray) -> np.ndarray:
    """Peak signal-to-noise ratio of each picture: 10 log10(4 / mean squared error).

    Args:
      originals: float pictures [N, H, W, 3] in [-1, 1].
      decoded: what became of them, the same shape and range.

    Returns:
      dB, float64 [N]; at most 106.
    """
    error = originals.astype(np.float64) - decoded
    squared = np.square(error).mean(axis=(1, 2, 3))  # [N]
    return 10.0 * np.log10(_RANGE**2 / np.maximum(squared, _LEAST_ERROR))


def ssim(*, originals: np.ndarray, decoded: np.ndarray) -> np.ndarray:
    """Structural similarity of each picture, the mean over its channels.

    Args:
      originals: float pictures [N, H, W, 3] in [-1, 1], of 11 pixels a side or more.
      decoded: what became of them, the same shape and range.

    Returns:
      float32 [N], at most 1.

    Raises:
      ValueError: the pictures are smaller than the window.

    Reference: Wang et al. 2004, "Image quality assessment: from error visibility to structural
      similarity", with its constants: a Gaussian window of 11 x 11 pixels, sigma 1.5, K1 = 0.01 and
      K2 = 0.03; windows lie within the picture.
    """
    height, width = originals.shape[1:3]
    if min(height, width) < _WINDOW:
        raise ValueError(
            f"pictures of {height} x {width} pixels are too small for SSIM, which needs {_WINDOW}"
        )

    def of_part(original: np.ndarray, other: np.ndarray) -> tf.Tensor:
        # Its comparison of means is of intensities, which begin at 0 and not at -1.
        pair = (tf.constant(part, tf.float32) + 1.0 for part in (original, other))
        return tf.image.ssim(*pair, max_val=_RANGE, filter_size=_WINDOW)

    return in_batches(of_part, originals, decoded, size=_BATCH)


def reconstruction(autoencoder: Autoencoder, images: np.ndarray) -> Reconstruction:
    """Encodes pictures to the means of their latents, and back.

    Args:
      autoencoder: the network.
      images: float pictures [N, H, W, 3] in [-1, 1].

    Raises:
      ValueError: their sides are not multiples of what the network scales down by.
    """
    autoencoder.config.check_picture(images.shape[1:3])

    def of_part(part: np.ndarray) -> np.ndarray:
        decoded = np.clip(autoencoder.predict_on_batch(part), -1.0, 1.0)
        return psnr(originals=part, decoded=decoded)

    values = in_batches(of_part, images, size=_BATCH)
    return Reconstruction(psnr=float(np.mean(values)), count=len(images))
