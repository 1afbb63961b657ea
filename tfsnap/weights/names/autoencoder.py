"""The autoencoder's tensors."""

from collections.abc import Iterator

from tfsnap.config import AutoencoderConfig
from tfsnap.weights.names.table import Row, convolution, dense, norm


def autoencoder_rows(config: AutoencoderConfig) -> list[Row]:
    """The name table of an autoencoder."""
    latent = config.latent_channels
    return [
        *_encoder(config),
        *convolution("quant_conv", "quant_conv", "quant_conv", (2 * latent, 2 * latent, 1)),
        *convolution("post_quant_conv", "post_quant_conv", "post_quant_conv", (latent, latent, 1)),
        *_decoder(config),
    ]


def unrepresentable(config: AutoencoderConfig) -> list[str]:
    """What of this autoencoder diffusers' AutoencoderKL cannot express, one line for each."""
    if config.decoder_channels == config.channels:
        return []
    return [f"decoder_channels are {config.decoder_channels}; only {config.channels} work"]


def _encoder(config: AutoencoderConfig) -> Iterator[Row]:
    channels, last = config.channels[0], len(config.channels) - 1
    yield from _same("encoder.conv_in", (3, channels, 3))
    for i, width in enumerate(config.channels):
        for j in range(config.resnets):
            yield from _resnet(
                f"encoder.down.{i}.resnets.{j}",
                f"encoder.down_blocks.{i}.resnets.{j}",
                f"encoder.down.{i}.block.{j}",
                (channels, width),
            )
            channels = width
        if i < last:
            yield from convolution(
                f"encoder.down.{i}.downsample.conv",
                f"encoder.down_blocks.{i}.downsamplers.0.conv",
                f"encoder.down.{i}.downsample.conv",
                (channels, channels, 3),
            )
    yield from _middle("encoder", channels)
    yield from norm("encoder.norm_out", "encoder.conv_norm_out", "encoder.norm_out", channels)
    yield from _same("encoder.conv_out", (channels, 2 * config.latent_channels, 3))


def _decoder(config: AutoencoderConfig) -> Iterator[Row]:
    widths = config.decoder_channels[::-1]
    channels, last = widths[0], len(widths) - 1
    yield from _same("decoder.conv_in", (config.latent_channels, channels, 3))
    yield from _middle("decoder", channels)
    for i, width in enumerate(widths):
        level = last - i  # The original counts the decoder's stages from the pixels.
        for j in range(config.resnets + 1):
            yield from _resnet(
                f"decoder.up.{i}.resnets.{j}",
                f"decoder.up_blocks.{i}.resnets.{j}",
                f"decoder.up.{level}.block.{j}",
                (channels, width),
            )
            channels = width
        if i < last:
            yield from convolution(
                f"decoder.up.{i}.upsample.conv",
                f"decoder.up_blocks.{i}.upsamplers.0.conv",
                f"decoder.up.{level}.upsample.conv",
                (channels, channels, 3),
            )
    yield from norm("decoder.norm_out", "decoder.conv_norm_out", "decoder.norm_out", channels)
    yield from _same("decoder.conv_out", (channels, 3, 3))


def _same(name: str, channels: tuple[int, int, int]) -> list[Row]:
    return convolution(name, name, name, channels)


def _resnet(ours: str, hf: str, ldm: str, channels: tuple[int, int]) -> Iterator[Row]:
    inward, outward = channels
    for i, width in ((1, inward), (2, outward)):
        yield from norm(f"{ours}.norm{i}", f"{hf}.norm{i}", f"{ldm}.norm{i}", width)
        names = (f"{ours}.conv{i}", f"{hf}.conv{i}", f"{ldm}.conv{i}")
        yield from convolution(*names, (width, outward, 3))
    if inward != outward:
        names = (f"{ours}.shortcut", f"{hf}.conv_shortcut", f"{ldm}.nin_shortcut")
        yield from convolution(*names, (inward, outward, 1))


def _middle(side: str, c: int) -> Iterator[Row]:
    ours, hf, ldm = f"{side}.mid", f"{side}.mid_block", f"{side}.mid"
    for i in (0, 1):
        names = (f"{ours}.resnets.{i}", f"{hf}.resnets.{i}", f"{ldm}.block_{i + 1}")
        yield from _resnet(*names, (c, c))
    ours, hf, ldm = f"{ours}.attention", f"{hf}.attentions.0", f"{ldm}.attn_1"
    yield from norm(f"{ours}.norm", f"{hf}.group_norm", f"{ldm}.norm", c)
    for mine, theirs, original in (
        ("query", "to_q", "q"),
        ("key", "to_k", "k"),
        ("value", "to_v", "v"),
        ("out", "to_out.0", "proj_out"),
    ):
        yield from dense(f"{ours}.{mine}", f"{hf}.{theirs}", f"{ldm}.{original}", (c, c))
