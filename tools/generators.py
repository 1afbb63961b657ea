"""Pictures of a run's Keras networks or of a bundle's, from the same noise, for programs."""

import hashlib
import math
import pathlib
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

from tfsnap.data.clip_tokens import clip_tokenizer
from tfsnap.metrics.batches import in_batches
from tfsnap.metrics.features import fingerprint
from tfsnap.models.clip import Clip
from tfsnap.models.latent_diffusion import LatentDiffusion
from tfsnap.runtime.bundle import Bundle
from tfsnap.runtime.manifest import MANIFEST
from tfsnap.runtime.philox import normal
from tfsnap.runtime.text_to_image import TextToImage
from tfsnap.training.jobs.runs import is_run, load_finished, load_unet_job, require_finished
from tfsnap.training.pictures import to_uint8
from tfsnap.training.sampling import picture_sampler

Draw = Callable[[Sequence[str], Sequence[int]], np.ndarray]

_PIXELS = 2**20  # That Keras draws together: 4 pictures of 512 x 512, or 256 of 64 x 64.


class Generator(NamedTuple):
    """What makes pictures of captions.

    Attributes:
      identity: tells it from others, by its weights.
      steps: that it was made for.
      baked: the guidance scale that is baked into it; None if it takes any.
      make: `(steps=, guidance=, sampler=None) -> draw`, by default with the sampler that it was
        made for; `draw(captions, seeds)` gives float32 [N, H, W, 3] in about [-1, 1], a picture for
        each caption, from the noise of its seed.
      clip: both towers of the text encoder's CLIP, if they are there.
    """

    identity: str
    steps: int
    baked: float | None
    make: Callable[..., Draw]
    clip: Clip | None = None

    def scale(self, chosen: float | None) -> float | None:
        """The guidance scale that counts: the one baked in, else the one that was chosen."""
        return chosen if self.baked is None else self.baked


def of_model(model: LatentDiffusion) -> Generator:
    """Keras networks."""
    tokenizer = clip_tokenizer(model.text_encoder.config, model.pad_token)

    def make(steps: int, guidance: float, sampler: str | None = None) -> Draw:
        how = {"steps": steps, "guidance": guidance, "sampler": sampler}
        pictures = picture_sampler(model, null_tokens=tokenizer([""])[0], **how)

        def part(tokens: np.ndarray, seeds: np.ndarray) -> np.ndarray:
            def noise(stream: int) -> np.ndarray:
                shape = (1, *model.latent_shape)
                each = [normal(int(seed), shape, stream=stream) for seed in seeds]
                return np.concatenate(each)

            return pictures(tokens, noise(0), lambda k: noise(k + 1))

        def draw(captions: Sequence[str], seeds: Sequence[int]) -> np.ndarray:
            together = max(1, _PIXELS // math.prod(model.resolution))
            return in_batches(part, tokenizer(captions), np.array(seeds), size=together)

        return draw

    identity = fingerprint(model.unet, model.autoencoder, model.text_encoder)
    return Generator(identity, model.steps, model.baked_guidance, make, model.clip)


def of_bundle(path: str, *, threads: int) -> Generator:
    """A bundle's networks in a TFLite interpreter."""
    bundle = Bundle.open(path)
    pipeline, settings = TextToImage(bundle, threads=threads), bundle.manifest.settings

    def make(steps: int, guidance: float, sampler: str | None = None) -> Draw:
        how = {"steps": steps, "guidance": guidance, "sampler": sampler}

        def draw(captions: Sequence[str], seeds: Sequence[int]) -> np.ndarray:
            pairs = zip(captions, seeds, strict=True)
            made = [pipeline.generate([text], seed=seed, **how)[0] for text, seed in pairs]
            return np.concatenate([result.image for result in made])

        return draw

    baked = settings.guidance.default if settings.guidance.baked_in else None
    # The manifest has the checksums of everything else.
    identity = hashlib.sha256(bundle.read(MANIFEST)).hexdigest()[:12]
    return Generator(identity, settings.sampler.steps, baked, make)


def open_generator(path: str, *, threads: int) -> Generator:
    """Opens the workdir of a UNet's run, or a bundle."""
    if is_run(pathlib.Path(path)):
        return of_model(load_finished(path))
    return of_bundle(path, threads=threads)


def require_generator(path: str) -> None:
    """What `open_generator` would raise at once, without loading a network."""
    if is_run(pathlib.Path(path)):
        require_finished(path, load_unet_job(path))
    else:
        Bundle.open(path)


def finite_uint8(images: np.ndarray) -> np.ndarray:
    """Pictures as files hold them.

    Raises:
      ValueError: there is NaN or infinity in them.
    """
    if not np.isfinite(images).all():
        raise ValueError("a network made pictures with NaN or infinity in them")
    return to_uint8(images)
