"""Frozen, validated descriptions of every network and schedule.

Nothing here imports TensorFlow: tools, the runtime and the documentation read the same dataclasses.
Each class converts to plain JSON types with `to_dict` and back with `from_dict`; an unknown key or
a value out of range raises `ValueError` naming the field, the value seen and what is allowed.
"""

import dataclasses
import json
import math
import pathlib
from typing import Any, Self

from tfsnap.base_config import Config, is_number, is_whole
from tfsnap.files import write_whole

_MOST_STEPS = 1_000_000  # Of a schedule, whose table a sampler makes; Stable Diffusion has 1000.
_LEAST_SIGNAL = 1e-12  # Of the noisiest step: sigma / alpha is a million there.

# What values that make no config raise on the way to it.
DESCRIPTION_ERRORS = (ArithmeticError, AttributeError, LookupError, TypeError, ValueError)


def differences(old: Any, new: Any, at: str = "") -> list[str]:
    """Lists the leaves in which two JSON values differ, as `a.b was 1, is 2`.

    Example:
      >>> differences({"a": {"b": 1, "c": 3}}, {"a": {"b": 2, "c": 3}})
      ['a.b was 1, is 2']
    """
    if isinstance(old, dict) and isinstance(new, dict):
        return [
            line
            for key in sorted(old.keys() | new.keys())
            for line in differences(old.get(key), new.get(key), f"{at}.{key}" if at else key)
        ]
    if json.dumps(old) == json.dumps(new):
        return []
    return [f"{at} was {json.dumps(old)}, is {json.dumps(new)}"]


def write_json(path: pathlib.Path, values: Any) -> None:
    """Writes JSON types to a file, as `write_whole`."""
    write_whole(path, (json.dumps(values, indent=1) + "\n").encode())


@dataclasses.dataclass(frozen=True)
class ScheduleConfig(Config):
    """The discrete noise schedule. Defaults are Stable Diffusion's.

    Attributes:
      kind: "scaled_linear" (linear in sqrt(beta)) or "linear" (linear in beta).
      beta_start: beta of the first, least noisy step.
      beta_end: beta of the last step.
      steps: number of training steps.
    """

    kind: str = "scaled_linear"
    beta_start: float = 0.00085
    beta_end: float = 0.012
    steps: int = 1000

    def __post_init__(self) -> None:
        self._require(self.kind in ("scaled_linear", "linear"), "kind", "scaled_linear or linear")
        fits = is_number(self.beta_start) and 0.0 < self.beta_start < 1.0
        self._require(fits, "beta_start", "between 0 and 1")
        fits = is_number(self.beta_end) and self.beta_start <= self.beta_end < 1.0
        self._require(fits, "beta_end", "in [beta_start, 1)")
        self._require_whole(1, "steps")
        self._require(self.steps <= _MOST_STEPS, "steps", f"at most {_MOST_STEPS}")
        signal = self._last_signal()
        if signal < _LEAST_SIGNAL:
            raise ValueError(
                f"ScheduleConfig.beta_end is {self.beta_end!r}; it must be smaller with "
                f"beta_start={self.beta_start!r} and steps={self.steps}, which leave {signal:.2g} "
                f"of the signal's variance, less than {_LEAST_SIGNAL:g}"
            )

    def _last_signal(self) -> float:
        """alpha^2 of the last step: the product of 1 - beta, of a thousand of them at most."""
        power = 0.5 if self.kind == "scaled_linear" else 1.0
        first, last = self.beta_start**power, self.beta_end**power
        count = min(self.steps, 1000)
        betas = (
            (first + (last - first) * i / max(count - 1, 1)) ** (1 / power) for i in range(count)
        )
        return math.prod(1 - beta for beta in betas) ** (self.steps / count)


@dataclasses.dataclass(frozen=True)
class StageConfig(Config):
    """One resolution stage of the UNet.

    Attributes:
      channels: width of the stage.
      resnets: number of ResNet blocks.
      attentions: how many cross-attention blocks follow each ResNet, one entry per ResNet. An int
        is spread evenly over the ResNets: 2 ResNets with 6 attentions are (3, 3).
    """

    channels: int
    resnets: int
    attentions: tuple[int, ...] | int = 0

    def __post_init__(self) -> None:
        self._require_whole(1, "channels", "resnets")
        if type(self.attentions) is int:
            each, rest = divmod(self.attentions, self.resnets)
            self._require(
                rest == 0, "attentions", f"a multiple of resnets={self.resnets}, or one per ResNet"
            )
            object.__setattr__(self, "attentions", (each,) * self.resnets)
        wanted = f"{self.resnets} counts >= 0, one for each ResNet"
        self._require_each(_is_count, "attentions", wanted, count=self.resnets)


def _is_count(value: Any) -> bool:
    return is_whole(value, 0)


def _is_width(value: Any) -> bool:
    return is_whole(value, 1)


def _is_positive(value: Any) -> bool:
    return is_number(value) and value > 0


def _is_stage(value: Any) -> bool:
    return isinstance(value, StageConfig)


@dataclasses.dataclass(frozen=True)
class UNetConfig(Config):
    """The denoising UNet of latent diffusion. Defaults are Stable Diffusion v1.5 (859,520,964).

    A skip connection leaves every ResNet and every downsampling of the way down and one enters each
    ResNet of the way up, so `up[i].resnets == down[-1 - i].resnets + 1`.

    Attributes:
      down: stages from the highest resolution to the lowest.
      mid: the bottleneck. Its attentions follow the ResNet they are listed at. None is none.
      up: stages from the lowest resolution to the highest.
      in_channels: channels of the latent.
      out_channels: channels of the prediction.
      context_width: width of the text embedding that cross-attention reads.
      heads: attention heads, the same number at every width (diffusers calls it
        `attention_head_dim=8`, which is a misnomer it keeps for compatibility).
      head_width: width of a head, the same at every width, in place of `heads`: 64 in Stable
        Diffusion 2. None means that `heads` counts.
      groups: groups of every GroupNorm.
      time_width: width of the sinusoidal time features; None means `down[0].channels`.
      guidance_width: width of the sinusoidal features of a guidance scale, which the network then
        reads beside the time: one evaluation is with guidance. None is a network without.
    """

    down: tuple[StageConfig, ...] = (
        StageConfig(320, 2, 2),
        StageConfig(640, 2, 2),
        StageConfig(1280, 2, 2),
        StageConfig(1280, 2, 0),
    )
    mid: StageConfig | None = StageConfig(1280, 2, (1, 0))
    up: tuple[StageConfig, ...] = (
        StageConfig(1280, 3, 0),
        StageConfig(1280, 3, 3),
        StageConfig(640, 3, 3),
        StageConfig(320, 3, 3),
    )
    in_channels: int = 4
    out_channels: int = 4
    context_width: int = 768
    heads: int = 8
    groups: int = 32
    time_width: int | None = None
    head_width: int | None = None
    guidance_width: int | None = None

    def __post_init__(self) -> None:
        self._require_whole(1, "in_channels", "out_channels", "context_width")
        self._require_whole(1, "heads", "head_width", "groups")
        self._require_each(_is_stage, "down", "at least one stage")
        self._require_each(_is_stage, "up", "at least one stage")
        self._require(self.mid is None or _is_stage(self.mid), "mid", "a stage, or None")
        self._require_stages_fit()
        self._derive()
        fits = _is_width(self.time_width) and self.time_width % 2 == 0
        self._require(fits, "time_width", "positive and even")
        width = self.guidance_width
        fits = width is None or (is_whole(width, 4) and width % 2 == 0)
        self._require(fits, "guidance_width", "even and at least 4, or None")

    def _derived(self) -> dict[str, Any]:
        return {"time_width": self.down[0].channels}

    def _require_stages_fit(self) -> None:
        self._require(len(self.up) == len(self.down), "up", f"{len(self.down)} stages, as down")
        for down, up in zip(reversed(self.down), self.up, strict=True):
            if up.resnets != down.resnets + 1 or up.channels != down.channels:
                raise ValueError(
                    f"up stage {up} does not fit down stage {down}: it must have the same channels "
                    f"and {down.resnets + 1} ResNets, one for each skip connection"
                )
        fits = self.mid is None or self.mid.channels == self.down[-1].channels
        self._require(fits, "mid", "as wide as the last down stage")
        for stage in self.stages.values():
            field = "heads" if self.head_width is None else "head_width"
            if stage.channels % self.groups or stage.channels % getattr(self, field):
                raise ValueError(
                    f"{stage.channels} channels are not a multiple of groups={self.groups} "
                    f"and {field}={getattr(self, field)}"
                )

    def check_latent(self, latent: tuple[int, int]) -> None:
        """Raises a ValueError if a latent of this height and width does not fit the network."""
        if any(side % self.downsampling for side in latent):
            raise ValueError(
                f"a latent of {latent[0]} x {latent[1]} does not fit this UNet: sides must be "
                f"multiples of {self.downsampling}"
            )

    @property
    def stages(self) -> dict[str, StageConfig]:
        """All stages by name, in the order in which they run: "down.0", ..., "mid", "up.0", ..."""
        middle = {} if self.mid is None else {"mid": self.mid}
        return {
            **{f"down.{i}": stage for i, stage in enumerate(self.down)},
            **middle,
            **{f"up.{i}": stage for i, stage in enumerate(self.up)},
        }

    def counterpart(self, stage: str, resnet: int) -> tuple[str, int] | None:
        """The ResNet of the way up that goes with one of the way down; None in other stages.

        Without the two, the feature map that the one of the way down leaves to the one before the
        other is what it would be if it were the identity, and all other skip connections stay.

        Args:
          stage: "down.1".
          resnet: number of its ResNet, from 1: the first changes the number of channels and stays.

        Returns:
          Stage and number.
        """
        if not stage.startswith("down."):
            return None
        number = int(stage.removeprefix("down."))
        return f"up.{len(self.down) - 1 - number}", self.down[number].resnets - resnet

    @property
    def removable(self) -> tuple[tuple[str, ...], ...]:
        """Names of the blocks that the network can be without; those of a row go together.

        Each attention by itself, each ResNet of the middle but the first, and each of a stage of
        the way down but the first together with its counterpart.
        """
        found = []
        for name, stage in self.stages.items():
            for i, count in enumerate(stage.attentions):
                found += [(f"{name}.attentions.{i}.{k}",) for k in range(count)]
            for i in range(1, 0 if name.startswith("up.") else stage.resnets):
                other = self.counterpart(name, i)
                pair = () if other is None else (f"{other[0]}.resnets.{other[1]}",)
                found.append((f"{name}.resnets.{i}", *pair))
        return tuple(found)

    def heads_of(self, channels: int) -> int:
        """The number of heads of an attention of so many channels."""
        return self.heads if self.head_width is None else channels // self.head_width

    @property
    def downsampling(self) -> int:
        """By how much the latent's height and width must be divisible."""
        return 2 ** (len(self.down) - 1)


@dataclasses.dataclass(frozen=True)
class TinyDecoderConfig(Config):
    """A decoder of separable convolutions. Defaults are for Stable Diffusion (1,434,615).

    Attributes:
      channels: widths from the pixels to the latent, as many as the autoencoder has stages.
      blocks: residual blocks of each stage, in the same order.
      expansion: how many times wider a block is inside.
    """

    channels: tuple[int, ...] = (32, 64, 128, 256)
    blocks: tuple[int, ...] = (1, 2, 3, 3)
    expansion: int = 2

    def __post_init__(self) -> None:
        self._require_each(_is_width, "channels", "one positive width or more")
        stages = len(self.channels)
        wanted = f"{stages} counts >= 0, one for each stage"
        self._require_each(_is_count, "blocks", wanted, count=stages)
        self._require_whole(1, "expansion")


@dataclasses.dataclass(frozen=True)
class AutoencoderConfig(Config):
    """The KL autoencoder of latent diffusion. Defaults are Stable Diffusion v1.5.

    Attributes:
      channels: encoder widths from pixels to latent; each stage but the last halves the resolution.
      decoder_channels: decoder widths in the same order; None means `channels`. The efficient
        decoder of SnapFusion halves them.
      resnets: ResNets per encoder stage; the decoder has one more.
      latent_channels: channels of the latent.
      groups: groups of every GroupNorm.
      scale: the latent is multiplied by this so that diffusion sees unit variance.
      tiny_decoder: a decoder of another kind, in place of the one of `decoder_channels`.
    """

    channels: tuple[int, ...] = (128, 256, 512, 512)
    decoder_channels: tuple[int, ...] | None = None
    resnets: int = 2
    latent_channels: int = 4
    groups: int = 32
    scale: float = 0.18215
    tiny_decoder: TinyDecoderConfig | None = None

    def __post_init__(self) -> None:
        self._require_whole(1, "resnets", "latent_channels", "groups")
        self._require(_is_positive(self.scale), "scale", "positive and finite")
        self._require_widths("channels")
        self._derive()
        self._require_widths("decoder_channels")
        self._require(
            len(self.decoder_channels) == len(self.channels), "decoder_channels", "as many stages"
        )
        if self.tiny_decoder is not None:
            self._require(
                self.decoder_channels == self.channels, "decoder_channels", "None beside a tiny one"
            )
            stages = len(self.channels)
            tiny = isinstance(self.tiny_decoder, TinyDecoderConfig)
            fits = tiny and len(self.tiny_decoder.channels) == stages
            self._require(fits, "tiny_decoder", f"of {stages} stages, as the encoder is")

    def _derived(self) -> dict[str, Any]:
        return {"decoder_channels": self.channels}

    def _require_widths(self, field: str) -> None:
        def fits(width: Any) -> bool:
            return _is_width(width) and width % self.groups == 0

        self._require_each(fits, field, f"multiples of groups={self.groups}")

    def encoder_differences(self, other: Self) -> list[str]:
        """In what another autoencoder is not this one, but for its decoder: see `differences`."""
        mine, others = self.to_dict(), other.to_dict()
        for field in ("decoder_channels", "tiny_decoder"):
            del mine[field], others[field]
        return differences(mine, others)

    def check_picture(self, picture: tuple[int, int]) -> None:
        """Raises a ValueError if a picture of this height and width does not fit the network."""
        if any(side % self.downsampling for side in picture):
            raise ValueError(
                f"pictures of {picture[0]} x {picture[1]} pixels do not fit the autoencoder: their "
                f"sides must be multiples of {self.downsampling}"
            )

    @property
    def downsampling(self) -> int:
        """Pixels per latent cell, along one side."""
        return 2 ** (len(self.channels) - 1)


CLIP_ACTIVATIONS = ("quick_gelu", "gelu", "exact_gelu")


def _require_transformer(config: "ClipTextConfig | ClipImageConfig") -> None:
    """What the two towers have in common."""
    known = ", ".join(CLIP_ACTIVATIONS)
    config._require(config.activation in CLIP_ACTIVATIONS, "activation", f"one of {known}")
    config._require_whole(1, "width", "layers", "heads")
    config._require(
        config.width % config.heads == 0, "width", f"a multiple of heads={config.heads}"
    )
    ratio = config.mlp_ratio
    fits = _is_positive(ratio) and 0.5 < ratio * config.width < math.inf  # Before it is rounded.
    config._require(fits, "mlp_ratio", "positive and finite")


@dataclasses.dataclass(frozen=True)
class ClipTextConfig(Config):
    """CLIP's text transformer. Defaults are ViT-L/14's, as in Stable Diffusion v1.5.

    Attributes:
      vocab_size: entries of the BPE vocabulary.
      context_length: tokens a prompt is padded or cut to.
      width: width of the residual stream, and of the context that the UNet reads.
      layers: number of transformer blocks.
      heads: attention heads.
      mlp_ratio: width of the MLP over `width`.
      activation: of the MLP: "quick_gelu"; "gelu" in its tanh form, for the text encoder of Stable
        Diffusion 2; "exact_gelu" as OpenCLIP computes it, which no delegate takes.
    """

    vocab_size: int = 49408
    context_length: int = 77
    width: int = 768
    layers: int = 12
    heads: int = 12
    mlp_ratio: float = 4
    activation: str = "quick_gelu"

    def __post_init__(self) -> None:
        _require_transformer(self)
        self._require_whole(1, "vocab_size")
        fits = is_whole(self.context_length, 2)
        self._require(fits, "context_length", "at least 2 (start and end)")

    @property
    def mlp_width(self) -> int:
        """Width of the MLP."""
        return round(self.mlp_ratio * self.width)


@dataclasses.dataclass(frozen=True)
class ClipImageConfig(Config):
    """CLIP's vision transformer. Defaults are ViT-L/14's.

    Attributes:
      resolution: side of the square input, in pixels.
      patch: side of a patch, in pixels.
      width: width of the residual stream.
      layers: number of transformer blocks.
      heads: attention heads.
      mlp_ratio: width of the MLP over `width`; ViT-g/14's is 6144 / 1408.
      activation: of the MLP, as in `ClipTextConfig`.
      mean: of red, green and blue in [0, 1], what the network takes for zero. The default leaves
        pictures in [-1, 1] as they are.
      std: what it takes for one, from there.
    """

    resolution: int = 224
    patch: int = 14
    width: int = 1024
    layers: int = 24
    heads: int = 16
    mlp_ratio: float = 4
    activation: str = "quick_gelu"
    mean: tuple[float, ...] = (0.5, 0.5, 0.5)
    std: tuple[float, ...] = (0.5, 0.5, 0.5)

    def __post_init__(self) -> None:
        _require_transformer(self)
        self._require_whole(1, "resolution", "patch")
        self._require(
            self.resolution % self.patch == 0, "resolution", f"a multiple of patch={self.patch}"
        )
        self._require_each(is_number, "mean", "three numbers", count=3)
        self._require_each(_is_positive, "std", "three positive numbers", count=3)

    @property
    def mlp_width(self) -> int:
        """Width of the MLP."""
        return round(self.mlp_ratio * self.width)


@dataclasses.dataclass(frozen=True)
class ClipConfig(Config):
    """Both CLIP towers and the width of the space they share. Defaults are ViT-L/14's."""

    text: ClipTextConfig = ClipTextConfig()
    image: ClipImageConfig = ClipImageConfig()
    embedding_width: int = 768

    def __post_init__(self) -> None:
        self._require_whole(1, "embedding_width")
