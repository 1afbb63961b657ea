"""A decoder with fewer channels, from the strongest of a wide one."""

from collections.abc import Mapping

import numpy as np

from tfsnap.config import AutoencoderConfig
from tfsnap.weights.slim import Wiring, slim

_ATTENTION = "decoder.mid.attention"


def slim_decoder(
    tensors: Mapping[str, np.ndarray], *, wide: AutoencoderConfig, narrow: AutoencoderConfig
) -> dict[str, np.ndarray]:
    """Keeps the strongest channels of a decoder, see `slim`.

    Args:
      tensors: weights of an autoencoder, by address.
      wide: its config.
      narrow: the same but for `decoder_channels`, none of them larger.

    Returns:
      The weights of the narrow autoencoder; those outside of the decoder as they are.

    Raises:
      ValueError: the configs differ in more than the decoder's channels, or those grow.
    """
    if wide.replace(decoder_channels=narrow.decoder_channels) != narrow:
        raise ValueError("only decoder_channels may differ between the two autoencoders")
    result = slim(tensors, wide=_wiring(wide), narrow=_wiring(narrow))
    # Scores are divided by the square root of the width: what is left of them stays what it was.
    share = narrow.decoder_channels[-1] / wide.decoder_channels[-1]
    for name in ("kernel", "bias"):
        address = f"{_ATTENTION}.query.{name}"
        result[address] = result[address] * np.sqrt(share, dtype=np.float32)
    return result


def _wiring(config: AutoencoderConfig) -> Wiring:
    wiring, groups, widths = Wiring(), config.groups, config.decoder_channels[::-1]
    latent = wiring.stream("latent", config.latent_channels)
    x = wiring.stream("conv_in", widths[0], groups)
    wiring.layer("decoder.conv_in", latent, x)
    x = wiring.resnet("decoder.mid.resnets.0", (x,), widths[0], groups)
    _attention(wiring, x, widths[0], groups)
    x = wiring.resnet("decoder.mid.resnets.1", (x,), widths[0], groups)
    for i, width in enumerate(widths):
        for j in range(config.resnets + 1):
            x = wiring.resnet(f"decoder.up.{i}.resnets.{j}", (x,), width, groups)
        if i < len(widths) - 1:
            upsampled = wiring.stream(f"up.{i}", width, groups)
            wiring.layer(f"decoder.up.{i}.upsample.conv", x, upsampled)
            x = upsampled
    wiring.norm("decoder.norm_out", x)
    wiring.layer("decoder.conv_out", x, wiring.stream("picture", 3))
    return wiring


def _attention(wiring: Wiring, x: str, width: int, groups: int) -> None:
    scores, mixed = (wiring.stream(f"mid.{name}", width, groups) for name in ("scores", "mixed"))
    wiring.norm(f"{_ATTENTION}.norm", x)
    for name in ("query", "key"):  # They are multiplied: the same channels of both.
        wiring.layer(f"{_ATTENTION}.{name}", x, scores)
    wiring.layer(f"{_ATTENTION}.value", x, mixed)
    wiring.layer(f"{_ATTENTION}.out", mixed, x)
