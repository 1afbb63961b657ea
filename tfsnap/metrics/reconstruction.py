"""How much of a picture is left after the autoencoder?"""

import dataclasses

import numpy as np

from tfsnap.models.autoencoder import Autoencoder

_BATCH = 16
_PEAK_POWER = 4.0  # The peak-to-peak range of [-1, 1] is 2.
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
    return 10.0 * np.log10(_PEAK_POWER / np.maximum(squared, _LEAST_ERROR))


def reconstruction(autoencoder: Autoencoder, images: np.ndarray) -> Reconstruction:
    """Encodes pictures to the means of their latents, and back.

    Args:
      autoencoder: the network.
      images: float pictures [N, H, W, 3] in [-1, 1].

    Raises:
      ValueError: their sides are not multiples of what the network scales down by.
    """
    height, width = images.shape[1:3]
    scale = autoencoder.config.downsampling
    if height % scale or width % scale:
        raise ValueError(
            f"pictures of {height} x {width} pixels do not fit the autoencoder: their sides must "
            f"be multiples of {scale}"
        )
    parts = []
    for first in range(0, len(images), _BATCH):
        batch = images[first : first + _BATCH]
        decoded = np.clip(autoencoder.predict_on_batch(batch), -1.0, 1.0)
        parts.append(psnr(originals=batch, decoded=decoded))
    return Reconstruction(psnr=float(np.mean(np.concatenate(parts))), count=len(images))
