"""Fewer channels: the weights of a narrow network, taken from those of a wide one."""

import dataclasses
from collections.abc import Mapping
from typing import NamedTuple

import numpy as np


class Layer(NamedTuple):
    """A layer with weights and the streams of channels that it reads and writes.

    Layers that add to each other, or that no convolution stands between, share a stream. A norm
    writes what it reads. Several streams stand for their channels one after the other.

    Attributes:
      address: of its weights.
      reads: names of streams.
      writes: names of streams.
    """

    address: str
    reads: tuple[str, ...]
    writes: tuple[str, ...]


class Stream(NamedTuple):
    """Channels that go together.

    Attributes:
      size: their number.
      groups: of norms, or heads: the same share of every group is kept, so that each norm still
        sees the channels it saw.
    """

    size: int
    groups: int = 1


@dataclasses.dataclass
class Wiring:
    """What of a network must have the same channels.

    Attributes:
      layers: all whose channels may go.
      streams: by name.
    """

    layers: list[Layer] = dataclasses.field(default_factory=list)
    streams: dict[str, Stream] = dataclasses.field(default_factory=dict)

    def stream(self, name: str, size: int, groups: int = 1) -> str:
        """Adds a stream, unless it is there, and returns its name."""
        self.streams.setdefault(name, Stream(size, groups))
        return name

    def layer(
        self, address: str, reads: str | tuple[str, ...], writes: str | tuple[str, ...]
    ) -> None:
        """Adds a layer; a name stands for the tuple of it alone."""
        tuples = [(x,) if isinstance(x, str) else x for x in (reads, writes)]
        self.layers.append(Layer(address, *tuples))

    def norm(self, address: str, reads: str | tuple[str, ...]) -> None:
        """Adds a norm."""
        self.layer(address, reads, reads)

    def resnet(self, at: str, reads: tuple[str, ...], channels: int, groups: int) -> str:
        """Adds a `ResNetBlock`.

        Args:
          at: its address.
          reads: streams.
          channels: of its output.
          groups: of its norms.

        Returns:
          The stream that it writes: what it read, if there is no shortcut.
        """
        same = sum(self.streams[name].size for name in reads) == channels and len(reads) == 1
        writes = reads[0] if same else self.stream(at, channels, groups)
        inner = self.stream(f"{at}.inner", channels, groups)
        self.norm(f"{at}.norm1", reads)
        self.layer(f"{at}.conv1", reads, inner)
        self.norm(f"{at}.norm2", inner)
        self.layer(f"{at}.conv2", inner, writes)
        if not same:
            self.layer(f"{at}.shortcut", reads, writes)
        return writes


def slim(
    tensors: Mapping[str, np.ndarray], *, wide: Wiring, narrow: Wiring
) -> dict[str, np.ndarray]:
    """Keeps the strongest channels of a network.

    The strength of a channel is the sum of the squares of all weights that write it.

    Args:
      tensors: weights, by address.
      wide: of their network.
      narrow: of the network that is wanted, with the same layers and no larger streams.

    Returns:
      The weights of the narrow network; those of layers that `wide` does not name as they are.

    Raises:
      ValueError: the networks differ in more than their numbers of channels, or those grow.
    """
    if wide.layers != narrow.layers:
        raise ValueError("stages as wide as each other in the wide network must stay so")
    kept = {name: _strongest(tensors, wide, name, narrow.streams[name]) for name in wide.streams}
    result = dict(tensors)
    for layer in wide.layers:
        reads, writes = (_channels(names, wide, kept) for names in (layer.reads, layer.writes))
        for name in ("kernel", "bias", "gamma", "beta"):
            address = f"{layer.address}.{name}"
            if address in tensors:
                value = np.take(tensors[address], writes, axis=-1)
                if name == "kernel":  # [..., in, out]
                    value = np.take(value, reads, axis=-2)
                result[address] = np.ascontiguousarray(value)
    return result


def _channels(names: tuple[str, ...], wide: Wiring, kept: Mapping[str, np.ndarray]) -> np.ndarray:
    """Numbers of the kept channels among those of several streams one after the other."""
    found, start = [], 0
    for name in names:
        found.append(kept[name] + start)
        start += wide.streams[name].size
    return np.concatenate(found)


def _strongest(
    tensors: Mapping[str, np.ndarray], wide: Wiring, name: str, wanted: Stream
) -> np.ndarray:
    """Numbers of the channels of a stream to keep, in order."""
    size, groups = wide.streams[name]
    if wanted.size > size or groups % wanted.groups:
        raise ValueError(
            f"{name} has {size} channels in {groups} groups; {wanted.size} in {wanted.groups} "
            "cannot be kept of them"
        )
    if wanted.size == size:
        return np.arange(size)
    strength = np.zeros(size)
    for layer in wide.layers:
        kernel = tensors.get(f"{layer.address}.kernel")
        if kernel is None or name not in layer.writes:
            continue
        start = 0
        for written in layer.writes:
            end = start + wide.streams[written].size
            if written == name:
                columns = kernel[..., start:end].astype(np.float64)
                strength += np.square(columns).reshape(-1, size).sum(axis=0)
            start = end
    grouped = strength.reshape(wanted.groups, -1)  # [G, C/G]
    best = np.argsort(-grouped, axis=1, kind="stable")[:, : wanted.size // wanted.groups]
    return np.sort((best + np.arange(wanted.groups)[:, None] * grouped.shape[1]).ravel())
