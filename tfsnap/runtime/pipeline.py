"""From prompts to pictures with any implementation of the networks."""

import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
from PIL import Image

from tfsnap.diffusion.denoiser import Denoiser
from tfsnap.diffusion.guidance import guide
from tfsnap.diffusion.process import add_noise
from tfsnap.diffusion.sampling import Callback, sample
from tfsnap.diffusion.schedule import Point
from tfsnap.runtime.components import Components
from tfsnap.runtime.errors import NotFiniteError, PromptTruncatedWarning, RequestError, shown
from tfsnap.runtime.guidance_features import guidance_inputs
from tfsnap.runtime.philox import normal
from tfsnap.runtime.pictures import from_mask, from_picture, to_picture
from tfsnap.runtime.request import Plan, Request, plan
from tfsnap.runtime.settings import Settings
from tfsnap.runtime.time_features import time_features
from tfsnap.tokenizer import Tokenizer

_QUOTED = 80  # Most characters of a prompt that a message repeats.


class Generated(NamedTuple):
    """One picture and what it was made from.

    Attributes:
      tokens: int32 [1, T], of the prompt.
      context: float32 [1, T, C], of the prompt.
      noise: float32 [1, h, w, c], standard normal, drawn from the seed. Sampling starts from it,
        for Euler's methods scaled; from a picture, with as much of it as the strength asks for.
      latent: float32 [1, h, w, c], where sampling ended.
      image: float32 [1, H, W, 3], nominally in [-1, 1].
    """

    tokens: np.ndarray
    context: np.ndarray
    noise: np.ndarray
    latent: np.ndarray
    image: np.ndarray


class _Conditions(NamedTuple):
    """What the UNet is told; `unconditional` is None where one evaluation a step is enough."""

    context: np.ndarray
    unconditional: np.ndarray | None
    guidance: float


class _Source(NamedTuple):
    """The picture that sampling starts from.

    Attributes:
      latent: float32 [1, h, w, c], scaled.
      mask: float32 [1, h, w, 1], 1 where to repaint; None repaints everything.
    """

    latent: np.ndarray
    mask: np.ndarray | None


class Pipeline:
    """Turns prompts into pictures: tokens, context, sampling with guidance, decoder.

    Args:
      components: the networks.
      tokenizer: of the text encoder.
      settings: how the networks belong together.

    Example:
      >>> pipeline = Pipeline(components, tokenizer=tokenizer, settings=settings)
      >>> pipeline("thumbs up, noto style", steps=8, seed=1).save("thumb.png")
      >>> pipeline("a blue door", image=Image.open("house.png"), mask=Image.open("door.png"))
    """

    def __init__(self, components: Components, *, tokenizer: Tokenizer, settings: Settings):
        self.components = components
        self.tokenizer = tokenizer
        self.settings = settings

    def __call__(
        self, prompt: str | Sequence[str], *, callback: Callback | None = None, **options: Any
    ) -> Image.Image | list[Image.Image]:
        """Generates a picture, or several for several prompts or `images_per_prompt` above 1.

        Args:
          prompt: what to show, or several. A prompt gives the same picture alone and among others.
          callback: `(step, steps, latent)`, called after every step of every picture.
          **options: fields of `tfsnap.runtime.request.Request`, such as `steps=8`.

        Returns:
          An RGB picture, or a list of them if there are several; those of a prompt are together.

        Raises:
          RequestError: a prompt is empty, or what is asked for out of range or of another type.
          NotFiniteError: a network returned NaN or infinity.

        Warns:
          PromptTruncatedWarning: a prompt was too long; the message says what was cut off.
        """
        alone = isinstance(prompt, str)
        generated = self.generate(prompt, callback=callback, **options)
        pictures = [to_picture(result.image) for result in generated]
        return pictures[0] if alone and len(pictures) == 1 else pictures

    def generate(
        self, prompts: str | Sequence[str], *, callback: Callback | None = None, **options: Any
    ) -> list[Generated]:
        """As calling the pipeline, but returns the tensors behind every picture, always a list."""
        return list(self.each(prompts, callback=callback, **options))

    def each(
        self, prompts: str | Sequence[str], *, callback: Callback | None = None, **options: Any
    ) -> Iterator[Generated]:
        """As `generate`, but yields every picture when it is drawn: a later one may fail."""
        prompts = _listed(prompts)
        request = Request(**options)
        planned = plan(request, self.settings)
        tokens = [self._tokens(prompt) for prompt in prompts]
        source = self._source(request)
        unconditional = None
        if planned.evaluations == 2:
            self._warn_if_truncated(request.negative_prompt)
            unconditional = self._encode(self.tokenizer(request.negative_prompt))
        for row in tokens:
            conditions = _Conditions(self._encode(row), unconditional, planned.guidance)
            for seed in planned.seeds:
                yield self._generate(row, conditions, planned, source, seed, callback)

    def _generate(
        self,
        tokens: np.ndarray,
        conditions: _Conditions,
        planned: Plan,
        source: _Source | None,
        seed: int,
        callback: Callback | None,
    ) -> Generated:
        shape = (1, *self.settings.latent.shape)
        noise = normal(seed, shape)
        if planned.from_noise:
            start = planned.start_scale * noise
        else:
            start = _at(planned.path[0].start, source, noise)
        latent = sample(
            planned.sampler.method,
            self._denoiser(conditions),
            start,
            path=planned.path,
            noise=lambda k: normal(seed, shape, stream=k + 1),
            project=_keeper(source, noise),
            callback=callback,
        )
        if source is not None and source.mask is not None:
            # Once more, as there is still noise in it where the path ends at t = 0.
            latent = source.mask * latent + (1 - source.mask) * source.latent
        image = _finite(self.components.decode(latent / self.settings.latent.scale), "decoder")
        return Generated(tokens, conditions.context, noise, latent, image)

    def _denoiser(self, conditions: _Conditions) -> Denoiser:
        """The UNet as a sampler wants it, guidance included."""
        features = self.settings.time_features
        told_scale = guidance_inputs(self.settings.guidance, conditions.guidance)
        contexts = [c for c in (conditions.context, conditions.unconditional) if c is not None]
        context = np.concatenate(contexts)  # [N, T, C]

        def evaluate(z_t: np.ndarray, t: float) -> np.ndarray:
            time = time_features(t, width=features.width, max_period=features.max_period)
            found = self.components.predict(
                latent=z_t, time_features=time, context=context, **told_scale
            )
            told, *untold = np.split(_finite(found, f"UNet at t = {t:g}"), len(contexts))
            if not untold:
                return told
            return guide(conditional=told, unconditional=untold[0], scale=conditions.guidance)

        return Denoiser(evaluate, self.settings.prediction)

    def _source(self, request: Request) -> _Source | None:
        if request.image is None:
            return None
        height, width, _ = self.components.image_shape
        mask = None
        if request.mask is not None:
            size = self.settings.latent.shape[:2]
            mask = from_mask(request.mask, height=height, width=width, latent=size)
        image = from_picture(request.image, height=height, width=width)
        latent = _finite(self.components.encode_image(image), "encoder")
        return _Source(latent * np.float32(self.settings.latent.scale), mask)

    def _encode(self, tokens: np.ndarray) -> np.ndarray:
        return _finite(self.components.encode_text(tokens), "text encoder")

    def _tokens(self, prompt: str) -> np.ndarray:
        if not self.tokenizer.encode(prompt):
            raise RequestError(f"The prompt {prompt!r} is empty: say what the picture should show")
        self._warn_if_truncated(prompt)
        return self.tokenizer(prompt)

    def _warn_if_truncated(self, prompt: str) -> None:
        lost = self.tokenizer.truncated(prompt)
        if lost is not None:
            shown = lost if len(lost) <= _QUOTED else f"{lost[:_QUOTED]}..."
            warnings.warn(
                f"The prompt is longer than {self.tokenizer.context_length - 2} tokens; its end "
                f"was cut off: {shown!r}",
                PromptTruncatedWarning,
                stacklevel=2,
            )


def _listed(prompts: str | Iterable[str]) -> list[str]:
    """The prompts; a string is one, not as many as it has letters."""
    if isinstance(prompts, str):
        return [prompts]
    found = list(prompts) if isinstance(prompts, Iterable) else [prompts]
    if not found:
        raise RequestError("There is no prompt: give at least one")
    for prompt in found:
        if not isinstance(prompt, str):
            raise RequestError(
                f"The prompt is {shown(prompt)}; it must be a string, or a list of them"
            )
    return found


def _at(point: Point, source: _Source, noise: np.ndarray) -> np.ndarray:
    """The source with as much noise as there is at `point`."""
    return add_noise(x=source.latent, eps=noise, alpha=point.alpha, sigma=point.sigma)


def _keeper(source: _Source | None, noise: np.ndarray) -> Callable | None:
    """Puts the source back, with the noise of the time, where it is not to be repainted."""
    if source is None or source.mask is None:
        return None
    return lambda z, point: source.mask * z + (1 - source.mask) * _at(point, source, noise)


def _finite(array: np.ndarray, source: str) -> np.ndarray:
    """Returns `array`, what `source` returned, unless it holds NaN or infinity."""
    finite = np.isfinite(array)
    if not finite.all():
        raise NotFiniteError(
            f"The {source} returned {finite.size - finite.sum()} of {finite.size} values that are "
            "NaN or infinite: try another seed or less guidance; if it stays so, export the bundle "
            "again"
        )
    return array
