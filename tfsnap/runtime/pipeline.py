"""From prompts to pictures with any implementation of the three networks."""

import math
import numbers
import warnings
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
from PIL import Image

from tfsnap.diffusion.guidance import guide
from tfsnap.diffusion.process import Prediction, interpret
from tfsnap.diffusion.sampling import Callback, ddim
from tfsnap.diffusion.schedule import NoiseSchedule, spaced_timesteps
from tfsnap.runtime.components import Components
from tfsnap.runtime.errors import NotFiniteError, PromptTruncatedWarning, RequestError
from tfsnap.runtime.philox import normal
from tfsnap.runtime.settings import MAX_GUIDANCE, Settings
from tfsnap.runtime.time_features import time_features
from tfsnap.tokenizer import Tokenizer


class Generated(NamedTuple):
    """One picture and what it was made from.

    Attributes:
      tokens: int32 [1, T], of the prompt.
      context: float32 [1, T, C], of the prompt.
      noise: float32 [1, h, w, c], where sampling started.
      latent: float32 [1, h, w, c], where it ended.
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


class Pipeline:
    """Turns prompts into pictures: tokens, context, DDIM with guidance, decoder.

    Args:
      components: the three networks.
      tokenizer: of the text encoder.
      settings: how the networks belong together.

    Example:
      >>> pipeline = Pipeline(components, tokenizer=tokenizer, settings=settings)
      >>> pipeline("thumbs up, noto style", steps=8, seed=1).save("thumb.png")
    """

    def __init__(self, components: Components, *, tokenizer: Tokenizer, settings: Settings):
        self.components = components
        self.tokenizer = tokenizer
        self.settings = settings
        self._schedule = NoiseSchedule(settings.schedule)

    def __call__(
        self,
        prompt: str | Sequence[str],
        *,
        negative_prompt: str = "",
        steps: int | None = None,
        guidance: float | None = None,
        seed: int = 0,
        callback: Callback | None = None,
    ) -> Image.Image | list[Image.Image]:
        """Generates a picture, or one for each of several prompts.

        Args:
          prompt: what to show, or several. A prompt gives the same picture alone and among others.
          negative_prompt: what to steer away from; it has no effect where guidance is 1.
          steps: steps of the sampler, 1 .. `settings.schedule.steps`; by default the bundle's.
          guidance: guidance scale, 0 .. 50; 1 is none and saves half of the time; by default the
            bundle's.
          seed: 0 .. 2^64 - 1: the same seed gives the same picture, up to rounding.
          callback: `(step, steps, latent)`, called after every step of every picture.

        Returns:
          An RGB picture, or a list of them if `prompt` was a list.

        Raises:
          RequestError: a prompt is empty or a number out of range.
          NotFiniteError: a network returned NaN or infinity.

        Warns:
          PromptTruncatedWarning: a prompt was too long; the message says what was cut off.
        """
        generated = self.generate(
            [prompt] if isinstance(prompt, str) else prompt,
            negative_prompt=negative_prompt,
            steps=steps,
            guidance=guidance,
            seed=seed,
            callback=callback,
        )
        pictures = [to_picture(result.image) for result in generated]
        return pictures[0] if isinstance(prompt, str) else pictures

    def generate(
        self,
        prompts: Sequence[str],
        *,
        negative_prompt: str = "",
        steps: int | None = None,
        guidance: float | None = None,
        seed: int = 0,
        callback: Callback | None = None,
    ) -> list[Generated]:
        """As calling the pipeline with a list, but returns the tensors behind every picture."""
        if not prompts:
            raise RequestError("There is no prompt: give at least one")
        timesteps = self._timesteps(steps)
        guidance = self._guidance(guidance, negative_prompt)
        if not isinstance(seed, numbers.Integral) or not 0 <= seed < 2**64:
            raise RequestError(f"seed is {seed!r}; it must be an integer between 0 and 2^64 - 1")
        tokens = [self._tokens(prompt) for prompt in prompts]
        unconditional = None
        if guidance != 1.0:
            self._warn_if_truncated(negative_prompt)
            unconditional = self._encode(self.tokenizer(negative_prompt))
        return [
            self._generate(row, unconditional, guidance, timesteps, int(seed), callback)
            for row in tokens
        ]

    def _generate(
        self,
        tokens: np.ndarray,
        unconditional: np.ndarray | None,
        guidance: float,
        timesteps: np.ndarray,
        seed: int,
        callback: Callback | None,
    ) -> Generated:
        context = self._encode(tokens)
        noise = normal(seed, (1, *self.settings.latent.shape))
        latent = ddim(
            self._denoiser(_Conditions(context, unconditional, guidance)),
            noise,
            timesteps=timesteps,
            schedule=self._schedule,
            callback=callback,
        )
        image = _finite(self.components.decode(latent / self.settings.latent.scale), "decoder")
        return Generated(tokens, context, noise, latent, image)

    def _denoiser(self, conditions: _Conditions) -> Callable[[np.ndarray, int], Prediction]:
        """The UNet as a sampler wants it: (z_t, t) -> Prediction, guidance included."""
        features = self.settings.time_features

        def denoise(z_t: np.ndarray, t: int) -> Prediction:
            time = time_features(t, width=features.width, max_period=features.max_period)

            def evaluate(context: np.ndarray) -> np.ndarray:
                output = self.components.predict(latent=z_t, time_features=time, context=context)
                return _finite(output, f"UNet at t = {t}")

            output = evaluate(conditions.context)
            if conditions.unconditional is not None:
                unconditional = evaluate(conditions.unconditional)
                output = guide(
                    conditional=output, unconditional=unconditional, scale=conditions.guidance
                )
            return interpret(
                self.settings.prediction,
                z_t=z_t,
                output=output,
                # Python floats, so that numpy computes in the float32 of the latent.
                alpha=float(self._schedule.alpha(t)),
                sigma=float(self._schedule.sigma(t)),
            )

        return denoise

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
            warnings.warn(
                f"The prompt is longer than {self.tokenizer.context_length - 2} tokens; its end "
                f"was cut off: {lost!r}",
                PromptTruncatedWarning,
                stacklevel=2,
            )

    def _timesteps(self, steps: int | None) -> np.ndarray:
        sampler, most = self.settings.sampler, self._schedule.steps
        steps = sampler.steps if steps is None else steps
        if not isinstance(steps, numbers.Integral) or not 1 <= steps <= most:
            raise RequestError(f"steps is {steps!r}; it must be an integer between 1 and {most}")
        return spaced_timesteps(steps=most, sampling_steps=steps, spacing=sampler.spacing)

    def _guidance(self, guidance: float | None, negative_prompt: str) -> float:
        """The scale to apply; 1 where the UNet is evaluated once a step."""
        about = self.settings.guidance
        if about.baked_in and (guidance not in (None, about.default) or negative_prompt):
            raise RequestError(
                f"This bundle has guidance {about.default:g} built into its UNet: leave out "
                "guidance and the negative prompt"
            )
        guidance = about.default if guidance is None else guidance
        if not (math.isfinite(guidance) and 0 <= guidance <= MAX_GUIDANCE):
            raise RequestError(
                f"guidance is {guidance!r}; it must be between 0 and {MAX_GUIDANCE:g}"
            )
        return 1.0 if about.baked_in else float(guidance)


def to_picture(image: np.ndarray) -> Image.Image:
    """Converts a decoder's output to an RGB picture.

    Args:
      image: float [1, H, W, 3] or [H, W, 3]; -1 is black, 1 is white, values beyond are cut off.
    """
    levels = (np.clip(image, -1.0, 1.0) + 1.0) * 127.5 + 0.5  # Then rounded down.
    return Image.fromarray(levels.astype(np.uint8).reshape(image.shape[-3:]))


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
