"""The autoencoder's tensors."""

from collections.abc import Iterator

from tfsnap.config import AutoencoderConfig
from tfsnap.weights.names.table import Row, convolution, dense, norm
from tfsnap.weights.tensors import WeightMismatchError


def autoencoder_rows(config: AutoencoderConfig) -> list[Row]:
    """The name table of an autoencoder.

    Raises:
      WeightMismatchError: it has a tiny decoder, for which no other layout has names.
    """
    if config.tiny_decoder is not None:
        raise WeightMismatchError(
            "the autoencoder has a tiny decoder, which exists in tfsnap alone and cannot be "
            "converted; tools/export.py --autoencoder=... exports it to TFLite"
        )
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
        names = (f"encoder.down.{i}", f"encoder.down_blocks.{i}", f"encoder.down.{i}")
        resample = "downsample" if i < last else None
        yield from _stage(names, (channels, width), config.resnets, resample)
        channels = width
    yield from _middle("encoder", channels)
    yield from norm("encoder.norm_out", "encoder.conv_norm_out", "encoder.norm_out", channels)
    yield from _same("encoder.conv_out", (channels, 2 * config.latent_channels, 3))


def _decoder(config: AutoencoderConfig) -> Iterator[Row]:
    widths = config.decoder_channels[::-1]
    channels, last = widths[0], len(widths) - 1
    yield from _same("decoder.conv_in", (config.latent_channels, channels, 3))
    yield from _middle("decoder", channels)
    for i, width in enumerate(widths):
        # The original counts the decoder's stages from the pixels.
        names = (f"decoder.up.{i}", f"decoder.up_blocks.{i}", f"decoder.up.{last - i}")
        resample = "upsample" if i < last else None
        yield from _stage(names, (channels, width), config.resnets + 1, resample)
        channels = width
    yield from norm("decoder.norm_out", "decoder.conv_norm_out", "decoder.norm_out", channels)
    yield from _same("decoder.conv_out", (channels, 3, 3))


def _stage(
    names: tuple[str, str, str], channels: tuple[int, int], resnets: int, resample: str | None
) -> Iterator[Row]:
    """ResNets, of which the first goes from and to `channels`, then "downsample" or "upsample"."""
    ours, hf, ldm = names
    inward, width = channels
    for j in range(resnets):
        blocks = (f"{ours}.resnets.{j}", f"{hf}.resnets.{j}", f"{ldm}.block.{j}")
        yield from _resnet(*blocks, (width if j else inward, width))
    if resample:
        yield from convolution(
            f"{ours}.{resample}.conv",
            f"{hf}.{resample}rs.0.conv",
            f"{ldm}.{resample}.conv",
            (width, width, 3),
        )


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
