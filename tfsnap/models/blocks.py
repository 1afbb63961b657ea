"""The blocks of a UNet as things of their own: what they take, and each alone as a network."""

import dataclasses
from collections.abc import Callable, Iterator
from typing import NamedTuple

import tensorflow as tf
import tf_keras as keras

from tfsnap.config import Config, StageConfig, UNetConfig
from tfsnap.layers.attention import SpatialTransformer
from tfsnap.layers.biased import Conv2D, Dense
from tfsnap.layers.norms import GroupNorm
from tfsnap.layers.resample import Downsample, Upsample
from tfsnap.layers.resnet import ResNetBlock


@dataclasses.dataclass(frozen=True, order=True)
class Block(Config):
    """All that the cost of a block depends on; what a kind does not know is 0.

    Attributes:
      kind: "time" (the two layers of the time embedding), "conv_in", "resnet", "attention",
        "downsample", "upsample" or "conv_out" (norm, SiLU, convolution).
      inputs: channels that come in.
      channels: channels that go out.
      height: of the feature map that comes in.
      width: of the feature map that comes in.
      skip: channels of the skip connection, which is concatenated first.
      embedding: width of the time embedding.
      heads: attention heads.
      tokens: length of the text embedding.
      context_width: width of the text embedding.
      groups: groups of the norms.
    """

    kind: str
    inputs: int
    channels: int
    height: int = 0
    width: int = 0
    skip: int = 0
    embedding: int = 0
    heads: int = 0
    tokens: int = 0
    context_width: int = 0
    groups: int = 0

    def __str__(self) -> str:
        size = f" at {self.height} x {self.width}" if self.height else ""
        skip = f" + {self.skip}" if self.skip else ""
        return f"{self.kind}, {self.inputs}{skip} to {self.channels} channels{size}"


def blocks_of(config: UNetConfig, *, latent: tuple[int, int], tokens: int) -> dict[str, Block]:
    """The blocks of a UNet by name, in the order in which they run.

    Args:
      config: the network.
      latent: height and width of the latent.
      tokens: length of the text embedding.

    Raises:
      ValueError: the latent does not fit the network.

    Example:
      >>> blocks = blocks_of(UNetConfig(), latent=(64, 64), tokens=77)
      >>> len(blocks), len(set(blocks.values()))
      (50, 33)
    """
    config.check_latent(latent)
    return dict(_Walk(config, latent, tokens).blocks())


class _Walk:
    """Follows a feature map through a UNet."""

    def __init__(self, config: UNetConfig, latent: tuple[int, int], tokens: int):
        self.config = config
        self.size = latent
        self.tokens = tokens
        self.channels = config.down[0].channels
        self.skips = [self.channels]

    def blocks(self) -> Iterator[tuple[str, Block]]:
        c = self.config
        embedding, last = 4 * c.down[0].channels, len(c.down) - 1
        yield "time", Block("time", c.time_width, embedding)
        yield "conv_in", self._here("conv_in", inputs=c.in_channels, channels=self.channels)
        for i, stage in enumerate(c.down):
            yield from self._stage(f"down.{i}", stage, leaves=True)
            if i < last:
                yield f"down.{i}.downsample", self._here("downsample")
                self.size = (self.size[0] // 2, self.size[1] // 2)
                self.skips.append(self.channels)
        if c.mid is not None:
            yield from self._stage("mid", c.mid)
        for i, stage in enumerate(c.up):
            yield from self._stage(f"up.{i}", stage, takes=True)
            if i < last:
                yield f"up.{i}.upsample", self._here("upsample")
                self.size = (2 * self.size[0], 2 * self.size[1])
        yield "conv_out", self._here("conv_out", channels=c.out_channels, groups=c.groups)

    def _stage(
        self, name: str, stage: StageConfig, *, leaves: bool = False, takes: bool = False
    ) -> Iterator[tuple[str, Block]]:
        c = self.config
        for i, attentions in enumerate(stage.attentions):
            yield (
                f"{name}.resnets.{i}",
                self._here(
                    "resnet",
                    channels=stage.channels,
                    skip=self.skips.pop() if takes else 0,
                    embedding=4 * c.down[0].channels,
                    groups=c.groups,
                ),
            )
            self.channels = stage.channels
            for k in range(attentions):
                yield (
                    f"{name}.attentions.{i}.{k}",
                    self._here(
                        "attention",
                        heads=c.heads_of(stage.channels),
                        tokens=self.tokens,
                        context_width=c.context_width,
                        groups=c.groups,
                    ),
                )
            if leaves:
                self.skips.append(self.channels)

    def _here(self, kind: str, **fields: int) -> Block:
        height, width = self.size
        at = {"inputs": self.channels, "channels": self.channels, "height": height, "width": width}
        return Block(kind, **{**at, **fields})


class Alone(NamedTuple):
    """A block as a network of its own.

    Attributes:
      layers: what holds its weights.
      function: named feature maps and embeddings to the feature map that comes out.
      inputs: shape of each argument, batch 1.
    """

    layers: list[keras.layers.Layer]
    function: Callable[..., tf.Tensor]
    inputs: dict[str, list[int]]


def build_block(block: Block) -> Alone:
    """Makes a block a network of its own, randomly initialised.

    Raises:
      ValueError: its kind is unknown.
    """
    if block.kind not in _BUILDERS:
        raise ValueError(f"kind is {block.kind!r}; it must be one of {', '.join(_BUILDERS)}")
    alone = _BUILDERS[block.kind](block)
    alone.function(**{name: tf.zeros(shape) for name, shape in alone.inputs.items()})
    return alone


def _map(block: Block, channels: int | None = None) -> list[int]:
    return [1, block.height, block.width, block.inputs if channels is None else channels]


def _time(block: Block) -> Alone:
    first, second = (Dense(block.channels, name=n) for n in ("time.in", "time.out"))
    inputs = {"x": [1, 1, block.inputs]}
    return Alone([first, second], lambda x: second(tf.nn.silu(first(x))), inputs)


def _conv_in(block: Block) -> Alone:
    conv = Conv2D(block.channels, 3, padding="same", name="conv_in")
    return Alone([conv], lambda x: conv(x), {"x": _map(block)})


def _resnet(block: Block) -> Alone:
    resnet = ResNetBlock(block.channels, block.groups, name="resnet")
    inputs = {"x": _map(block), "time": [1, 1, block.embedding]}
    if not block.skip:
        return Alone([resnet], lambda x, time: resnet(x, time=time), inputs)
    return Alone(
        [resnet],
        lambda x, time, skip: resnet(tf.concat([x, skip], axis=-1), time=time),
        {**inputs, "skip": _map(block, block.skip)},
    )


def _attention(block: Block) -> Alone:
    attention = SpatialTransformer(block.channels, block.heads, block.groups, name="attention")
    inputs = {"x": _map(block), "context": [1, block.tokens, block.context_width]}
    return Alone([attention], lambda x, context: attention(x, context=context), inputs)


def _downsample(block: Block) -> Alone:
    layer = Downsample(block.channels, symmetric=True, name="downsample")
    return Alone([layer], lambda x: layer(x), {"x": _map(block)})


def _upsample(block: Block) -> Alone:
    layer = Upsample(block.channels, name="upsample")
    return Alone([layer], lambda x: layer(x), {"x": _map(block)})


def _conv_out(block: Block) -> Alone:
    norm = GroupNorm(block.groups, name="norm_out")
    conv = Conv2D(block.channels, 3, padding="same", name="conv_out")
    return Alone([norm, conv], lambda x: conv(tf.nn.silu(norm(x))), {"x": _map(block)})


_BUILDERS = {
    "time": _time,
    "conv_in": _conv_in,
    "resnet": _resnet,
    "attention": _attention,
    "downsample": _downsample,
    "upsample": _upsample,
    "conv_out": _conv_out,
}
