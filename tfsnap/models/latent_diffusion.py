"""The networks of a text-to-image model together, with what ties them to each other."""

import dataclasses

from tfsnap.diffusion.schedule import NoiseSchedule
from tfsnap.models.autoencoder import Autoencoder
from tfsnap.models.clip import Clip, TextEncoder
from tfsnap.models.unet import UNet


@dataclasses.dataclass(frozen=True)
class LatentDiffusion:
    """A text encoder, a denoising UNet and an autoencoder that were trained for each other.

    Attributes:
      text_encoder: conditions the UNet.
      unet: the denoiser.
      autoencoder: between pixels and latents; its config's `scale` gives latents unit variance.
      schedule: the noise schedule that the UNet was trained with.
      prediction: what the UNet's output means, "epsilon" or "v".
      resolution: height and width of the pictures, in pixels.
      pad_token: what fills a prompt's row behind its end, see `tfsnap.tokenizer.Tokenizer`.
      clip: both towers of which the text encoder is one, to score pictures; None if it is alone.
    """

    text_encoder: TextEncoder
    unet: UNet
    autoencoder: Autoencoder
    schedule: NoiseSchedule
    prediction: str
    resolution: tuple[int, int]
    pad_token: int = 0
    clip: Clip | None = None

    @property
    def latent_shape(self) -> tuple[int, int, int]:
        """Height, width and channels of the latent."""
        height, width = (side // self.autoencoder.config.downsampling for side in self.resolution)
        return height, width, self.autoencoder.config.latent_channels

    def with_decoder_of(self, autoencoder: Autoencoder) -> "LatentDiffusion":
        """The same with another autoencoder, whose decoder reads the same latents.

        Raises:
          ValueError: the two differ in more than the decoder.
        """
        mine, other = self.autoencoder.config, autoencoder.config
        if mine.with_decoder_of(other) != other:
            raise ValueError(
                f"the other autoencoder is of another kind: {other}, not {mine} with another "
                "decoder"
            )
        return dataclasses.replace(self, autoencoder=autoencoder)
