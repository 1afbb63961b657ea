"""How close does a decoder come to its teacher, and to the pictures?"""

import dataclasses

import numpy as np
import tensorflow as tf

from tfsnap.metrics.batches import in_batches
from tfsnap.metrics.reconstruction import psnr, ssim
from tfsnap.models.autoencoder import Autoencoder

_BATCH = 16


@dataclasses.dataclass(frozen=True)
class Likeness:
    """How alike pictures are to others, means over the pictures.

    Attributes:
      psnr: peak signal-to-noise ratio, dB.
      ssim: structural similarity, at most 1.
    """

    psnr: float
    ssim: float

    @classmethod
    def of(cls, *, originals: np.ndarray, decoded: np.ndarray) -> "Likeness":
        """Compares float pictures [N, H, W, 3] in [-1, 1]."""
        pair = {"originals": originals, "decoded": decoded}
        return cls(psnr=float(np.mean(psnr(**pair))), ssim=float(np.mean(ssim(**pair))))


@dataclasses.dataclass(frozen=True)
class DecoderQuality:
    """What a decoder makes of latents.

    Attributes:
      to_teacher: on `latents`, compared with what the teacher's decoder makes of them.
      to_image: on the latents of pictures, compared with the pictures.
    """

    to_teacher: Likeness
    to_image: Likeness


def encode(autoencoder: Autoencoder, images: np.ndarray) -> np.ndarray:
    """The mean latents of float pictures [N, H, W, 3] in [-1, 1], not scaled."""
    return in_batches(lambda part: autoencoder.encoder(tf.constant(part))[0], images, size=_BATCH)


def decode(autoencoder: Autoencoder, latents: np.ndarray) -> np.ndarray:
    """Pictures, float [N, H, W, 3] in [-1, 1], of latents [N, h, w, C] that are not scaled."""
    found = in_batches(lambda part: autoencoder.decoder(tf.constant(part)), latents, size=_BATCH)
    return np.clip(found, -1.0, 1.0)


def compare_decoder(
    student: Autoencoder,
    *,
    teacher: Autoencoder,
    images: np.ndarray,
    latents: np.ndarray | None = None,
) -> DecoderQuality:
    """Compares a decoder with its teacher's and with pictures.

    Args:
      student: the autoencoder whose decoder is compared; its encoder is not used.
      teacher: the autoencoder whose latents it reads.
      images: float pictures [N, H, W, 3] in [-1, 1].
      latents: what both decode, float32 [M, h, w, C], not scaled, such as a UNet's; None are those
        of the pictures.

    Raises:
      ValueError: the two do not share their latents, these have other channels, or pictures are
        smaller than SSIM's window.
    """
    others = teacher.config.encoder_differences(student.config)
    if others:
        raise ValueError(f"the autoencoders differ in more than the decoder: {'; '.join(others)}")
    own = encode(teacher, images)
    latents = own if latents is None else latents
    if latents.shape[-1] != teacher.config.latent_channels:
        raise ValueError(
            f"latents of shape {list(latents.shape)} do not fit: the decoders read "
            f"{teacher.config.latent_channels} channels"
        )
    return DecoderQuality(
        to_teacher=Likeness.of(
            originals=decode(teacher, latents), decoded=decode(student, latents)
        ),
        to_image=Likeness.of(originals=images, decoded=decode(student, own)),
    )
