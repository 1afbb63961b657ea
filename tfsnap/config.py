"""Frozen, validated descriptions of every network and schedule.

Nothing here imports TensorFlow: tools, the runtime and the documentation read the same dataclasses.
Each class converts to plain JSON types with `to_dict` and back with `from_dict`; an unknown key or
a value out of range raises `ValueError` naming the field, the value seen and what is allowed.
"""

import dataclasses
import json
import pathlib
import typing
from typing import Any, Self

from tfsnap.files import write_whole

# What values that make no config raise on the way to it.
DESCRIPTION_ERRORS = (ArithmeticError, AttributeError, LookupError, TypeError, ValueError)


@dataclasses.dataclass(frozen=True)
class Config:
    """Dict round-trip shared by all configs."""

    def to_dict(self) -> dict[str, Any]:
        """Returns the config as JSON-compatible types (tuples become lists)."""
        return _plain(self)

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Self:
        """Builds the config from `to_dict`'s output (nested dicts and lists are converted).

        Raises:
          ValueError: a key is not a field of this config, or a value is out of range.
        """
        known = {field.name for field in dataclasses.fields(cls)}
        unknown = sorted(set(values) - known)
        if unknown:
            raise ValueError(
                f"{cls.__name__} has no field {unknown[0]!r}; its fields are {sorted(known)}"
            )
        hints = typing.get_type_hints(cls)
        return cls(**{name: _typed(hints[name], value) for name, value in values.items()})

    def replace(self, **changes: Any) -> Self:
        """Returns a copy with the given fields changed."""
        return dataclasses.replace(self, **changes)

    def _require(self, condition: bool, field: str, wanted: str) -> None:
        if not condition:
            raise ValueError(
                f"{type(self).__name__}.{field} is {getattr(self, field)!r}; it must be {wanted}"
            )


def _plain(value: Any) -> Any:
    if isinstance(value, Config):
        return {f.name: _plain(getattr(value, f.name)) for f in dataclasses.fields(value)}
    if isinstance(value, tuple | list):
        return [_plain(item) for item in value]
    return value


def _typed(hint: Any, value: Any) -> Any:
    """Converts plain JSON `value` to the annotated type `hint` of a config field."""
    args = typing.get_args(hint)
    if isinstance(hint, type) and issubclass(hint, Config):
        return hint.from_dict(value) if isinstance(value, dict) else value
    if typing.get_origin(hint) is tuple and isinstance(value, list | tuple):
        return tuple(_typed(args[0], item) for item in value)
    if args and isinstance(value, list | dict):  # A union: the member that is a container.
        for member in args:
            if typing.get_origin(member) is tuple or isinstance(member, type(Config)):
                return _typed(member, value)
    return value


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
        self._require(0.0 < self.beta_start < 1.0, "beta_start", "between 0 and 1")
        self._require(self.beta_start <= self.beta_end < 1.0, "beta_end", "in [beta_start, 1)")
        self._require(self.steps >= 1, "steps", "at least 1")


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
        self._require(self.channels > 0, "channels", "positive")
        self._require(self.resnets >= 1, "resnets", "at least 1")
        if isinstance(self.attentions, int):
            each, rest = divmod(self.attentions, self.resnets)
            self._require(
                rest == 0, "attentions", f"a multiple of resnets={self.resnets}, or one per ResNet"
            )
            object.__setattr__(self, "attentions", (each,) * self.resnets)
        self._require(
            len(self.attentions) == self.resnets and min(self.attentions) >= 0,
            "attentions",
            f"{self.resnets} counts >= 0, one for each ResNet",
        )


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
        self._require(len(self.down) >= 1, "down", "at least one stage")
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
        if self.time_width is None:
            object.__setattr__(self, "time_width", self.down[0].channels)
        self._require(self.time_width % 2 == 0, "time_width", "even")
        width = self.guidance_width
        fits = width is None or (width >= 4 and width % 2 == 0)
        self._require(fits, "guidance_width", "even and at least 4, or None")

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
        positive = len(self.channels) >= 1 and min(self.channels) >= 1
        self._require(positive, "channels", "one positive width or more")
        fits = len(self.blocks) == len(self.channels) and min(self.blocks) >= 0
        self._require(fits, "blocks", f"{len(self.channels)} counts >= 0, one for each stage")
        self._require(self.expansion >= 1, "expansion", "at least 1")


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
        if self.decoder_channels is None:
            object.__setattr__(self, "decoder_channels", self.channels)
        self._require(self.resnets >= 1, "resnets", "at least 1")
        self._require(self.latent_channels >= 1, "latent_channels", "at least 1")
        self._require(self.scale > 0, "scale", "positive")
        for field in ("channels", "decoder_channels"):
            widths = getattr(self, field)
            self._require(
                len(widths) >= 1 and not any(c % self.groups for c in widths),
                field,
                f"multiples of groups={self.groups}",
            )
        self._require(
            len(self.decoder_channels) == len(self.channels), "decoder_channels", "as many stages"
        )
        if self.tiny_decoder is not None:
            self._require(
                self.decoder_channels == self.channels, "decoder_channels", "None beside a tiny one"
            )
            stages = len(self.channels)
            fits = len(self.tiny_decoder.channels) == stages
            self._require(fits, "tiny_decoder", f"of {stages} stages, as the encoder is")

    def with_decoder_of(self, other: Self) -> Self:
        """The same autoencoder with the decoder of another."""
        return self.replace(
            decoder_channels=other.decoder_channels, tiny_decoder=other.tiny_decoder
        )

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


def _require_activation(config: Config) -> None:
    known = ", ".join(CLIP_ACTIVATIONS)
    config._require(config.activation in CLIP_ACTIVATIONS, "activation", f"one of {known}")


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
        _require_activation(self)
        self._require(self.width % self.heads == 0, "width", f"a multiple of heads={self.heads}")
        self._require(self.context_length >= 2, "context_length", "at least 2 (start and end)")

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
        _require_activation(self)
        self._require(self.width % self.heads == 0, "width", f"a multiple of heads={self.heads}")
        self._require(
            self.resolution % self.patch == 0, "resolution", f"a multiple of patch={self.patch}"
        )
        self._require(len(self.mean) == 3, "mean", "three numbers")
        self._require(len(self.std) == 3 and min(self.std) > 0, "std", "three positive numbers")

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
