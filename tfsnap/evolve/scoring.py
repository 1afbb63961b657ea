"""How much of the CLIP score an edit of a UNet costs."""

import dataclasses

import numpy as np
import tensorflow as tf

from tfsnap.evolve.actions import Edited
from tfsnap.metrics.framing import squares
from tfsnap.metrics.retrieval import embed_captions, embed_images
from tfsnap.models.latent_diffusion import LatentDiffusion
from tfsnap.models.unet import UNet
from tfsnap.training.pictures import to_float, to_uint8
from tfsnap.training.sampling import Guided, guided, sample_latents


@dataclasses.dataclass(frozen=True)
class Prompts:
    """What pictures are generated from; the same for every network that is scored.

    Attributes:
      context: of the prompts, float32 [N, T, C].
      null_context: of the empty prompt, float32 [T, C].
      embeddings: of the prompts in CLIP's space, unit vectors [N, E].
      noise: where sampling starts, float32 [N, h, w, c].
    """

    context: np.ndarray
    null_context: np.ndarray
    embeddings: np.ndarray
    noise: np.ndarray

    @classmethod
    def make(
        cls,
        model: LatentDiffusion,
        *,
        tokens: np.ndarray,
        null_tokens: np.ndarray,
        noise: np.ndarray,
    ) -> "Prompts":
        """Encodes prompts once.

        Args:
          model: whose text encoder and CLIP.
          tokens: int32 [N, T].
          null_tokens: of the empty prompt, int32 [T].
          noise: standard normal, float32 [N, h, w, c].
        """
        return cls(
            context=model.text_encoder(tf.constant(tokens)).numpy(),
            null_context=model.text_encoder(tf.constant(null_tokens[None])).numpy()[0],
            embeddings=embed_captions(model.clip, tokens),
            noise=noise,
        )

    def part(self, number: int, size: int) -> "Prompts":
        """The `number`-th `size` prompts."""
        rows = slice(number * size, (number + 1) * size)
        return dataclasses.replace(
            self,
            context=self.context[rows],
            embeddings=self.embeddings[rows],
            noise=self.noise[rows],
        )


@dataclasses.dataclass(frozen=True)
class Scorer:
    """Generates pictures with a UNet and asks CLIP whether they show their prompts.

    Attributes:
      model: all networks but the UNet.
      steps: of DDIM.
      guidance: the guidance scale.
    """

    model: LatentDiffusion
    steps: int
    guidance: float

    @property
    def evaluations(self) -> int:
        """Of the UNet for a picture."""
        return self.steps * self.model.evaluations(self.guidance)

    def prepare(self, unet: UNet) -> Guided:
        """What `scores` evaluates; it is traced once for every size of a batch."""
        return guided(unet, self.guidance)

    def scores(self, evaluate: Guided, prompts: Prompts) -> np.ndarray:
        """Cosines between the pictures that a UNet makes and their prompts, float64 [N].

        The cosine of a picture that is not finite is NaN.

        Args:
          evaluate: from `prepare`.
          prompts: what to draw.
        """
        null = np.broadcast_to(prompts.null_context, prompts.context.shape)
        latent = sample_latents(
            evaluate,
            context=tf.constant(np.concatenate([prompts.context, null])),  # [2N, T, C]
            noise=tf.constant(prompts.noise),
            schedule=self.model.schedule,
            prediction=self.model.prediction,
            steps=self.steps,
        )
        autoencoder = self.model.autoencoder
        pictures = autoencoder.decoder(latent / autoencoder.config.scale).numpy()
        seen = embed_images(self.model.clip, self._fitting(np.nan_to_num(pictures)))
        cosines = np.sum(seen.astype(np.float64) * prompts.embeddings, axis=1)
        # Asked of the pictures: as bytes, for another size, they would all be finite.
        return np.where(np.isfinite(pictures).all(axis=(1, 2, 3)), cosines, np.nan)

    def _fitting(self, pictures: np.ndarray) -> np.ndarray:
        """Float pictures in the size that CLIP takes, resized as `clip_space` does."""
        side = self.model.clip.config.image.resolution
        if pictures.shape[1:3] == (side, side):
            return np.clip(pictures, -1.0, 1.0)
        return to_float(squares(to_uint8(pictures), side))


def share(unet: UNet, edited: Edited) -> UNet:
    """The network after a removal, made of the layers of the network before: no weight is copied.

    Args:
      unet: the network before.
      edited: the edit, which adds nothing.

    Raises:
      ValueError: the edit adds a block.
    """
    added = [name for name, origin in edited.origins.items() if origin.added]
    if added:
        raise ValueError(f"{added[0]} is new: only what is left of a network can be shared")
    layers = {
        block.name: block
        for stage in unet.stages
        for block in (*stage.resnets, *(a for row in stage.attentions for a in row))
    }
    result = UNet(edited.config)
    for name in ("time_in", "time_out", "time_guidance", "conv_in", "norm_out", "conv_out"):
        setattr(result, name, getattr(unet, name))
    for mine, theirs in zip(result.stages, unet.stages, strict=True):
        mine.resample = theirs.resample
        mine.resnets = [layers[edited.origins[b.name].name] for b in mine.resnets]
        mine.attentions = [
            [layers[edited.origins[b.name].name] for b in row] for row in mine.attentions
        ]
    return result
