"""What a sampler must know about the networks it drives, as in the manifest of a bundle."""

import dataclasses
import math

from tfsnap.config import Config, ScheduleConfig
from tfsnap.diffusion.paths import SPACINGS, Spacing
from tfsnap.diffusion.samplers import SAMPLERS
from tfsnap.diffusion.schedule import END

MAX_GUIDANCE = 50.0


@dataclasses.dataclass(frozen=True)
class TimeFeatures(Config):
    """The sinusoidal features of time that the UNet reads; see `tfsnap.runtime.time_features`.

    Attributes:
      width: number of features, even.
      max_period: the slowest feature's period over 2 pi, in training steps.
    """

    width: int
    max_period: float = 10_000.0

    def __post_init__(self) -> None:
        self._require(self.width > 0 and self.width % 2 == 0, "width", "positive and even")
        self._require(0 < self.max_period < math.inf, "max_period", "positive and finite")


@dataclasses.dataclass(frozen=True)
class Latent(Config):
    """The space that is sampled in.

    Attributes:
      shape: height, width and channels.
      scale: the decoder reads z / scale.
    """

    shape: tuple[int, ...]
    scale: float

    def __post_init__(self) -> None:
        valid = len(self.shape) == 3 and min(self.shape) > 0
        self._require(valid, "shape", "height, width and channels, all positive")
        self._require(0 < self.scale < math.inf, "scale", "positive and finite")


@dataclasses.dataclass(frozen=True)
class Guidance(Config):
    """Classifier-free guidance.

    Attributes:
      baked_in: the UNet was distilled with guidance of strength `default` in it: it is evaluated
        once a step, and neither guidance nor a negative prompt can be chosen.
      default: the scale w of `tfsnap.diffusion.guidance.guide`.
      width: of the features of the scale where the UNet reads it, see
        `tfsnap.runtime.guidance_features`: it is evaluated once a step too, a scale can be chosen
        and a negative prompt cannot. None where it does not.
    """

    baked_in: bool
    default: float
    width: int | None = None

    def __post_init__(self) -> None:
        valid = 0 <= self.default <= MAX_GUIDANCE
        self._require(valid, "default", f"between 0 and {MAX_GUIDANCE:g}")
        if self.width is not None:
            valid = self.width >= 4 and self.width % 2 == 0
            self._require(valid, "width", "even and at least 4")
            self._require(not self.baked_in, "baked_in", "false where the UNet reads the scale")


@dataclasses.dataclass(frozen=True)
class Sampler(Config):
    """How a picture is sampled unless the caller says otherwise.

    Attributes:
      default: name of the sampler, one of `tfsnap.diffusion.samplers.SAMPLERS`.
      steps: number of steps.
      spacing: see `tfsnap.diffusion.paths.Spacing`, as for the next two; or "default", that which
        each sampler has in diffusers.
      steps_offset: its `offset`; None is 0.
      set_alpha_to_one: whether the last step ends without noise; None is yes.
    """

    default: str = "ddim"
    steps: int = 25
    spacing: str = "trailing"
    steps_offset: int | None = None
    set_alpha_to_one: bool | None = None

    def __post_init__(self) -> None:
        self._require(self.default in SAMPLERS, "default", f"one of {', '.join(SAMPLERS)}")
        self._require(self.steps >= 1, "steps", "at least 1")
        known = (*SPACINGS, "default")
        self._require(self.spacing in known, "spacing", f"one of {', '.join(known)}")
        self._require(self.steps_offset in (None, 0, 1), "steps_offset", "0 or 1")

    def spelled_out(self) -> "Sampler":
        """The same for a bundle, which has one spacing for all samplers: the default's."""
        return self.replace(spacing=self.times(self.default).kind)

    def times(self, name: str) -> Spacing:
        """How the times of a path are chosen for the sampler of a name."""
        kind = SAMPLERS[name].spacing if self.spacing == "default" else self.spacing
        end = 0 if self.set_alpha_to_one is False else END
        return Spacing(kind, self.steps_offset or 0, end)


@dataclasses.dataclass(frozen=True)
class Settings(Config):
    """Everything that is needed beside the networks to turn a prompt into a picture.

    Attributes:
      schedule: the noise schedule that the UNet was trained with.
      prediction: what the UNet returns, "epsilon" or "v".
      time_features: the features of time that the UNet reads.
      latent: the space that is sampled in.
      guidance: classifier-free guidance.
      sampler: defaults of sampling.
    """

    schedule: ScheduleConfig
    prediction: str
    time_features: TimeFeatures
    latent: Latent
    guidance: Guidance
    sampler: Sampler

    def __post_init__(self) -> None:
        self._require(self.prediction in ("epsilon", "v"), "prediction", "epsilon or v")
        fits = self.sampler.steps <= self.schedule.steps
        self._require(fits, "sampler", f"of at most {self.schedule.steps} steps, as the schedule")
