"""The UNet's tensors."""

import dataclasses
from collections.abc import Iterator

from tfsnap.config import UNetConfig
from tfsnap.weights.names.table import Row, convolution, dense, norm


def unet_rows(config: UNetConfig) -> list[Row]:
    """The name table of a UNet.

    Blocks that other layouts cannot express (see `unrepresentable`) have names there too, which
    nothing reads.
    """
    width = config.down[0].channels
    time = 4 * width
    rows = [
        *dense("time.in", "time_embedding.linear_1", "time_embed.0", (config.time_width, time)),
        *dense("time.out", "time_embedding.linear_2", "time_embed.2", (time, time)),
        *convolution("conv_in", "conv_in", "input_blocks.0.0", (config.in_channels, width, 3)),
    ]
    if config.guidance_width is not None:
        shape = (config.guidance_width, config.time_width)
        names = ("time.guidance", "time_embedding.cond_proj", "time_embed.cond_proj")
        rows += dense(*names, shape, bias=False)
    skips = [width]
    rows += _down(config, skips)
    rows += _mid(config)
    rows += _up(config, skips)
    rows += norm("norm_out", "conv_norm_out", "out.0", width)
    rows += convolution("conv_out", "conv_out", "out.2", (width, config.out_channels, 3))
    return rows


def unrepresentable(config: UNetConfig) -> list[str]:
    """What of this UNet diffusers' UNet2DConditionModel cannot express, one line for each."""
    lines = []
    for name, stages in (("down", config.down), ("up", config.up)):
        lines += [
            f"{name}.{i} has {stage.attentions} attentions behind its ResNets; all 0 or all 1 work"
            for i, stage in enumerate(stages)
            if len(set(stage.attentions)) > 1 or stage.attentions[0] > 1
        ]
    if config.mid is not None and config.mid.attentions != (1, 0):
        lines.append(f"mid has {config.mid.attentions} attentions; (1, 0) works")
    if config.time_width != config.down[0].channels:
        lines.append(f"time_width is {config.time_width}; {config.down[0].channels} works")
    return lines


@dataclasses.dataclass(frozen=True)
class _Block:
    """Where a ResNet and its attentions are, in each layout.

    The original numbers them in one sequence, `first` and on; in the middle that goes through.
    """

    ours: str
    diffusers: str
    index: int
    ldm: str
    first: int = 0

    def resnet(self, config: UNetConfig, inward: int, outward: int) -> list[Row]:
        at = f"{self.ours}.resnets.{self.index}"
        hf = f"{self.diffusers}.resnets.{self.index}"
        ldm = f"{self.ldm}.{self.first}"
        time = 4 * config.down[0].channels
        rows = [
            *norm(f"{at}.norm1", f"{hf}.norm1", f"{ldm}.in_layers.0", inward),
            *convolution(f"{at}.conv1", f"{hf}.conv1", f"{ldm}.in_layers.2", (inward, outward, 3)),
            *dense(f"{at}.time", f"{hf}.time_emb_proj", f"{ldm}.emb_layers.1", (time, outward)),
            *norm(f"{at}.norm2", f"{hf}.norm2", f"{ldm}.out_layers.0", outward),
            *convolution(
                f"{at}.conv2", f"{hf}.conv2", f"{ldm}.out_layers.3", (outward, outward, 3)
            ),
        ]
        if inward != outward:
            names = (f"{at}.shortcut", f"{hf}.conv_shortcut", f"{ldm}.skip_connection")
            rows += convolution(*names, (inward, outward, 1))
        return rows

    def attentions(self, config: UNetConfig, channels: int, count: int) -> Iterator[Row]:
        for k in range(count):
            more = f".{k}" if k else ""
            yield from _transformer(
                f"{self.ours}.attentions.{self.index}.{k}",
                f"{self.diffusers}.attentions.{self.index}{more}",
                f"{self.ldm}.{self.first + 1 + k}",
                channels,
                config,
            )


def _down(config: UNetConfig, skips: list[int]) -> list[Row]:
    rows, n, channels = [], 1, config.down[0].channels
    for i, stage in enumerate(config.down):
        for j, count in enumerate(stage.attentions):
            block = _Block(f"down.{i}", f"down_blocks.{i}", j, f"input_blocks.{n}")
            rows += block.resnet(config, channels, stage.channels)
            rows += block.attentions(config, stage.channels, count)
            channels = stage.channels
            skips.append(channels)
            n += 1
        if i < len(config.down) - 1:
            rows += convolution(
                f"down.{i}.downsample.conv",
                f"down_blocks.{i}.downsamplers.0.conv",
                f"input_blocks.{n}.0.op",
                (channels, channels, 3),
            )
            skips.append(channels)
            n += 1
    return rows


def _mid(config: UNetConfig) -> list[Row]:
    rows, stage, n = [], config.mid, 0
    if stage is None:
        return []
    for j, count in enumerate(stage.attentions):
        block = _Block("mid", "mid_block", j, "middle_block", n)
        rows += block.resnet(config, stage.channels, stage.channels)
        rows += block.attentions(config, stage.channels, count)
        n += 1 + count
    return rows


def _up(config: UNetConfig, skips: list[int]) -> list[Row]:
    rows, n, channels = [], 0, config.down[-1].channels
    for i, stage in enumerate(config.up):
        for j, count in enumerate(stage.attentions):
            block = _Block(f"up.{i}", f"up_blocks.{i}", j, f"output_blocks.{n}")
            rows += block.resnet(config, channels + skips.pop(), stage.channels)
            rows += block.attentions(config, stage.channels, count)
            channels = stage.channels
            n += 1
        if i < len(config.up) - 1:
            rows += convolution(
                f"up.{i}.upsample.conv",
                f"up_blocks.{i}.upsamplers.0.conv",
                f"output_blocks.{n - 1}.{1 + stage.attentions[-1]}.conv",
                (channels, channels, 3),
            )
    return rows


def _transformer(ours: str, hf: str, ldm: str, c: int, config: UNetConfig) -> Iterator[Row]:
    """Rows of a spatial transformer; inside it both other layouts use the same names."""

    def names(mine: str, theirs: str) -> tuple[str, str, str]:
        return f"{ours}.{mine}", f"{hf}.{theirs}", f"{ldm}.{theirs}"

    inner = "transformer_blocks.0"
    yield from norm(*names("norm", "norm"), c)
    for projection in ("proj_in", "proj_out"):
        for row in convolution(*names(projection, projection), (c, c, 1)):
            # Stable Diffusion 2 stores its projections as linear layers.
            linear = row.kernel and config.head_width is not None
            yield dataclasses.replace(row, torch_shape=(c, c)) if linear else row
    for i in (1, 2, 3):
        yield from norm(*names(f"norm{i}", f"{inner}.norm{i}"), c)
    for mine, theirs, source in (
        ("self_attention", "attn1", c),
        ("cross_attention", "attn2", config.context_width),
    ):
        at = f"{inner}.{theirs}"
        yield from dense(*names(f"{mine}.query", f"{at}.to_q"), (c, c), bias=False)
        yield from dense(*names(f"{mine}.key", f"{at}.to_k"), (source, c), bias=False)
        yield from dense(*names(f"{mine}.value", f"{at}.to_v"), (source, c), bias=False)
        yield from dense(*names(f"{mine}.out", f"{at}.to_out.0"), (c, c))
    yield from dense(*names("feed_forward.up", f"{inner}.ff.net.0.proj"), (c, 8 * c))
    yield from dense(*names("feed_forward.down", f"{inner}.ff.net.2"), (4 * c, c))
