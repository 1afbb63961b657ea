"""Fewer channels: the weights of a narrow decoder, taken from those of a wide one."""

from collections.abc import Iterator, Mapping
from typing import NamedTuple

import numpy as np

from tfsnap.config import AutoencoderConfig

_LATENT, _PICTURE = "latent", "picture"  # Streams that keep all of their channels.

_ATTENTION = "decoder.mid.attention"


class _Layer(NamedTuple):
    """A layer's address and the streams of channels that it reads and writes.

    Layers that add to each other, or that no convolution stands between, share a stream. A norm
    reads what it writes.
    """

    address: str
    reads: str
    writes: str


def slim_decoder(
    tensors: Mapping[str, np.ndarray], *, wide: AutoencoderConfig, narrow: AutoencoderConfig
) -> dict[str, np.ndarray]:
    """Keeps the strongest channels of a decoder.

    The strength of a channel is the sum of the squares of all weights that write it. The same share
    of every group of the norms is kept, so that each norm still sees the channels it saw.

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
    pairs = list(zip(wide.decoder_channels, narrow.decoder_channels, strict=True))
    if any(few > many for many, few in pairs):
        raise ValueError(f"decoder_channels {narrow.decoder_channels} are not within {pairs}")
    layers, sizes = list(_decoder_layers(wide)), dict(_widths(wide, narrow))
    kept = {
        stream: np.sort(_strongest(tensors, layers, stream, size, wide.groups))
        for stream, size in sizes.items()
    }
    result = dict(tensors)
    for layer in layers:
        for name in ("kernel", "bias", "gamma", "beta"):
            address = f"{layer.address}.{name}"
            if address in tensors:
                result[address] = _sliced(tensors[address], layer, kept)
    # Scores are divided by the square root of the width: what is left of them stays what it was.
    share = narrow.decoder_channels[-1] / wide.decoder_channels[-1]
    for name in ("kernel", "bias"):
        result[f"{_ATTENTION}.query.{name}"] = result[f"{_ATTENTION}.query.{name}"] * np.sqrt(
            share, dtype=np.float32
        )
    return result


def _sliced(tensor: np.ndarray, layer: _Layer, kept: Mapping[str, np.ndarray]) -> np.ndarray:
    """A kernel [..., in, out], or a vector [out], with the kept channels only."""
    if layer.writes in kept:
        tensor = np.take(tensor, kept[layer.writes], axis=-1)
    if tensor.ndim > 1 and layer.reads in kept:
        tensor = np.take(tensor, kept[layer.reads], axis=-2)
    return np.ascontiguousarray(tensor)


def _strongest(
    tensors: Mapping[str, np.ndarray], layers: list[_Layer], stream: str, size: int, groups: int
) -> np.ndarray:
    """Numbers of the channels of a stream to keep, `size` of them."""
    kernels = [
        tensors[f"{layer.address}.kernel"].astype(np.float64)
        for layer in layers
        if layer.writes == stream and f"{layer.address}.kernel" in tensors
    ]
    strength = sum(np.square(k).reshape(-1, k.shape[-1]).sum(axis=0) for k in kernels)
    grouped = strength.reshape(groups, -1)  # [G, C/G]
    best = np.argsort(-grouped, axis=1, kind="stable")[:, : size // groups]
    return (best + np.arange(groups)[:, None] * grouped.shape[1]).ravel()


def _streams(config: AutoencoderConfig) -> list[tuple[str, str]]:
    """For each stage of the decoder the streams that enter it and that its ResNets write."""
    widths, found = config.decoder_channels[::-1], []
    for i, width in enumerate(widths):
        entering = "stage.0" if i == 0 else f"up.{i - 1}"
        same = i == 0 or widths[i - 1] == width
        found.append((entering, entering if same else f"stage.{i}"))
    return found


def _widths(wide: AutoencoderConfig, narrow: AutoencoderConfig) -> Iterator[tuple[str, int]]:
    """How many channels each stream keeps."""
    few = narrow.decoder_channels[::-1]
    for i, (entering, inside) in enumerate(_streams(wide)):
        yield entering, few[max(i - 1, 0)]
        if inside != entering or few[i] == few[max(i - 1, 0)]:
            yield inside, few[i]
        elif i:
            raise ValueError(
                f"decoder_channels {narrow.decoder_channels}: stages as wide as each other in "
                f"{wide.decoder_channels} must stay so"
            )
        for j in range(wide.resnets + 1):
            yield f"stage.{i}.inner.{j}", few[i]
    for name in ("mid.inner.0", "mid.inner.1", "mid.scores", "mid.mixed"):
        yield name, few[0]


def _decoder_layers(config: AutoencoderConfig) -> Iterator[_Layer]:
    streams = _streams(config)
    yield _Layer("decoder.conv_in", _LATENT, "stage.0")
    for j in (0, 1):
        yield from _resnet(f"decoder.mid.resnets.{j}", "stage.0", "stage.0", f"mid.inner.{j}")
    yield _Layer(f"{_ATTENTION}.norm", "stage.0", "stage.0")
    for name in ("query", "key"):  # They are multiplied: the same channels of both.
        yield _Layer(f"{_ATTENTION}.{name}", "stage.0", "mid.scores")
    yield _Layer(f"{_ATTENTION}.value", "stage.0", "mid.mixed")
    yield _Layer(f"{_ATTENTION}.out", "mid.mixed", "stage.0")
    for i, (entering, inside) in enumerate(streams):
        for j in range(config.resnets + 1):
            reads = inside if j else entering
            name = f"decoder.up.{i}.resnets.{j}"
            yield from _resnet(name, reads, inside, f"stage.{i}.inner.{j}")
        yield _Layer(f"decoder.up.{i}.upsample.conv", inside, f"up.{i}")
    yield _Layer("decoder.norm_out", streams[-1][1], streams[-1][1])
    yield _Layer("decoder.conv_out", streams[-1][1], _PICTURE)


def _resnet(name: str, reads: str, writes: str, inner: str) -> Iterator[_Layer]:
    yield _Layer(f"{name}.norm1", reads, reads)
    yield _Layer(f"{name}.conv1", reads, inner)
    yield _Layer(f"{name}.norm2", inner, inner)
    yield _Layer(f"{name}.conv2", inner, writes)
    yield _Layer(f"{name}.shortcut", reads, writes)  # Where there is one.
