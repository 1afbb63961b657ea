"""What a caller asks for, checked, and what that means for a sampler."""

import dataclasses
import numbers

from PIL import Image

from tfsnap.colours import upright_size
from tfsnap.diffusion.paths import Path, Spacing
from tfsnap.diffusion.samplers import SAMPLERS, Sampler
from tfsnap.diffusion.schedule import NoiseSchedule
from tfsnap.runtime.errors import RequestError, one_line, shown
from tfsnap.runtime.settings import MAX_GUIDANCE, Settings

_STRENGTH = 0.8  # Of image-to-image, as in diffusers.


@dataclasses.dataclass(frozen=True, kw_only=True)
class Request:
    """How pictures are to be generated.

    Attributes:
      negative_prompt: what to steer away from, of all prompts; it has no effect where guidance is
        1. None is the empty one.
      images_per_prompt: pictures of every prompt, with the seeds `seed`, `seed + 1`, ...
      steps: steps of the sampler, 1 .. `settings.schedule.steps`; by default the bundle's.
      guidance: guidance scale, 0 .. 50; 1 is none and saves half of the time where the UNet does
        not read it; by default the bundle's.
      sampler: one of `tfsnap.diffusion.samplers.SAMPLERS`; by default the bundle's.
      seed: 0 .. 2^64 - 1: the same seed gives the same picture, up to rounding.
      image: a picture to start from (image-to-image). It is cut to the shape of the result, from
        its centre, and resized.
      mask: where it is white, `image` is repainted (inpainting), in whole cells of the latent.
        Where it is black, the latent is kept, and so the picture but for what the autoencoder
        loses. As large as `image`.
      strength: how much noise `image` gets, above 0 up to 1, and so how many of the steps are
        taken; by default 0.8, and 1 with a mask, which starts from noise alone.
    """

    negative_prompt: str | None = ""
    images_per_prompt: int = 1
    steps: int | None = None
    guidance: float | None = None
    sampler: str | None = None
    seed: int = 0
    image: Image.Image | None = None
    mask: Image.Image | None = None
    strength: float | None = None

    def __post_init__(self) -> None:
        if self.negative_prompt is None:
            object.__setattr__(self, "negative_prompt", "")


@dataclasses.dataclass(frozen=True)
class Plan:
    """A request that can be done.

    Attributes:
      sampler: how to sample.
      path: the steps to take.
      start_scale: what the noise is multiplied with where sampling starts from it alone.
      from_noise: whether it does, rather than from the picture with noise.
      guidance: the scale w.
      evaluations: of the UNet a step: 2 where w v(c) - (w - 1) v(null) is made of two.
      seeds: of the pictures of a prompt.
    """

    sampler: Sampler
    path: Path
    start_scale: float
    from_noise: bool
    guidance: float
    evaluations: int
    seeds: range


def plan(request: Request, settings: Settings) -> Plan:
    """Checks a request.

    Raises:
      RequestError: something in it is out of range, of another type, or a damaged picture.
    """
    if not isinstance(request.negative_prompt, str):
        raise RequestError(
            f"negative_prompt is {shown(request.negative_prompt)}; it must be one string, for all "
            "prompts"
        )
    name = settings.sampler.default if request.sampler is None else request.sampler
    if not isinstance(name, str) or name not in SAMPLERS:
        raise RequestError(f"sampler is {name!r}; it must be one of {', '.join(SAMPLERS)}")
    sampler, spacing = SAMPLERS[name], settings.sampler.times(name)
    path = _path(request, settings, name, spacing)
    strength = _strength(request)
    taken = int(len(path) * strength)
    if taken == 0:
        raise RequestError(
            f"strength is {strength:g}; of {len(path)} steps that leaves none: give more of either"
        )
    guidance, about = _guidance(request, settings), settings.guidance
    once = guidance == 1.0 or about.baked_in or about.width is not None
    return Plan(
        sampler=sampler,
        path=path[len(path) - taken :],
        start_scale=sampler.start_scale(path, spacing),
        from_noise=request.image is None or (request.mask is not None and strength == 1.0),
        guidance=guidance,
        evaluations=1 if once else 2,
        seeds=_seeds(request),
    )


def _path(request: Request, settings: Settings, name: str, spacing: Spacing) -> Path:
    steps, most = request.steps, settings.schedule.steps
    steps = settings.sampler.steps if steps is None else steps
    if not isinstance(steps, numbers.Integral) or not 1 <= steps <= most:
        raise RequestError(f"steps is {steps!r}; it must be an integer between 1 and {most}")
    schedule = NoiseSchedule(settings.schedule)
    try:
        return SAMPLERS[name].path(schedule, int(steps), spacing)
    except ValueError as error:
        raise RequestError(f"{error} (sampler {name})") from error


def _strength(request: Request) -> float:
    """The share of the steps to take; all of them without a picture to start from."""
    if request.image is None:
        for field in ("mask", "strength"):
            if getattr(request, field) is not None:
                raise RequestError(f"{field} is given without an image: it belongs to one")
        return 1.0
    _require_picture(request.image, "image")
    if request.mask is not None:
        _require_picture(request.mask, "mask")
        mask, image = upright_size(request.mask), upright_size(request.image)
        if mask != image:
            raise RequestError(
                "mask is {} x {} pixels and the image {} x {}: they must be the same".format(
                    *mask, *image
                )
            )
    strength = request.strength
    if strength is None:
        return _STRENGTH if request.mask is None else 1.0
    if not isinstance(strength, numbers.Real) or not 0.0 < strength <= 1.0:
        raise RequestError(
            f"strength is {shown(strength)}; it must be a number above 0 and at most 1"
        )
    return float(strength)


def _require_picture(picture: object, name: str) -> None:
    if not isinstance(picture, Image.Image):
        raise RequestError(
            f"{name} is {shown(picture)}; it must be a picture of PIL: Image.open(path) opens a "
            "file, Image.fromarray(levels) takes uint8 [H, W, 3]"
        )
    try:
        picture.load()
    except Exception as error:  # Pillow's readers fail in any way on what is damaged.
        raise RequestError(
            f"The {name} cannot be read: {one_line(error)}: copy or save its file again"
        ) from error


def _guidance(request: Request, settings: Settings) -> float:
    guidance, about = request.guidance, settings.guidance
    if about.baked_in and (guidance not in (None, about.default) or request.negative_prompt):
        raise RequestError(
            f"This bundle has guidance {about.default:g} built into its UNet: leave out "
            "guidance and the negative prompt"
        )
    if about.width is not None and request.negative_prompt:
        raise RequestError(
            "This bundle's UNet reads the guidance scale and is evaluated once a step: leave out "
            "the negative prompt"
        )
    guidance = about.default if guidance is None else guidance
    if not isinstance(guidance, numbers.Real) or not 0 <= guidance <= MAX_GUIDANCE:
        raise RequestError(
            f"guidance is {shown(guidance)}; it must be a number between 0 and {MAX_GUIDANCE:g}"
        )
    return float(guidance)


def _seeds(request: Request) -> range:
    seed, count = request.seed, request.images_per_prompt
    if not isinstance(count, numbers.Integral) or count < 1:
        raise RequestError(f"images_per_prompt is {count!r}; it must be a positive integer")
    if not isinstance(seed, numbers.Integral) or not 0 <= seed < 2**64:
        raise RequestError(f"seed is {seed!r}; it must be an integer between 0 and 2^64 - 1")
    if int(seed) + int(count) > 2**64:
        raise RequestError(f"seed is {seed}; with {count} pictures a prompt it would pass 2^64 - 1")
    return range(int(seed), int(seed) + int(count))
