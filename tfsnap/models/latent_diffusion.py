"""The networks of a text-to-image model together, with what ties them to each other."""

import dataclasses
from collections.abc import Mapping
from typing import Any, NamedTuple

from tfsnap.base_config import is_number, is_whole
from tfsnap.diffusion.samplers import SAMPLERS
from tfsnap.diffusion.schedule import NoiseSchedule
from tfsnap.models.autoencoder import Autoencoder
from tfsnap.models.clip import Clip, TextEncoder
from tfsnap.models.unet import UNet

STEPS, SAMPLER = 25, "ddim"  # Of a UNet that was not made for others.


class Distilled(NamedTuple):
    """What a UNet was made for that learnt the steps of another.

    Attributes:
      steps: of the sampler.
      guidance: the scale that is baked into it: it is evaluated once a step, without guidance. None
        if it takes guidance as any UNet does, or reads the scale.
      sampler: a name of `tfsnap.diffusion.samplers.SAMPLERS`.
    """

    steps: int
    guidance: float | None = None
    sampler: str = SAMPLER

    @classmethod
    def of(cls, about: Mapping[str, Any]) -> "Distilled | None":
        """From the description in a UNet's weight file.

        Raises:
          ValueError: it is there, and is none.
        """
        values = about.get("distilled")
        if not values:
            return None
        try:
            found = cls(**values)
        except TypeError as error:
            raise ValueError(f"distilled is {values} ({error})") from error
        free = found.guidance is None or (is_number(found.guidance) and found.guidance >= 0)
        known = isinstance(found.sampler, str) and found.sampler in SAMPLERS
        if not (is_whole(found.steps, 1) and free and known):
            raise ValueError(
                f"distilled is {values}; it must have a whole number of steps, guidance of 0 or "
                f"more or none, and a sampler of {', '.join(SAMPLERS)}"
            )
        return found


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
      distilled: see `Distilled`; None if it learnt from data alone.
      clip: both towers of which the text encoder is one, to score pictures; None if it is alone.
    """

    text_encoder: TextEncoder
    unet: UNet
    autoencoder: Autoencoder
    schedule: NoiseSchedule
    prediction: str
    resolution: tuple[int, int]
    pad_token: int = 0
    distilled: Distilled | None = None
    clip: Clip | None = None

    @property
    def baked_guidance(self) -> float | None:
        """The guidance scale that is baked into the UNet; None if there is none."""
        return self.distilled.guidance if self.distilled else None

    @property
    def steps(self) -> int:
        """Of the sampler, where nobody asks for others."""
        return self.distilled.steps if self.distilled else STEPS

    @property
    def sampler(self) -> str:
        """Its name, where nobody asks for another."""
        return self.distilled.sampler if self.distilled else SAMPLER

    def scale_of(self, guidance: float) -> float:
        """The scale to sample with where a guidance scale is wanted: 1 where it is baked in."""
        return guidance if self.baked_guidance is None else 1.0

    def evaluations(self, guidance: float) -> int:
        """Of the UNet a step, where a guidance scale is wanted."""
        reads = self.unet.config.guidance_width is not None
        return 1 if reads or self.scale_of(guidance) == 1.0 else 2

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
        others = self.autoencoder.config.encoder_differences(autoencoder.config)
        if others:
            raise ValueError(
                f"the other autoencoder is of another kind, in more than the decoder: "
                f"{'; '.join(others)}"
            )
        return dataclasses.replace(self, autoencoder=autoencoder)
