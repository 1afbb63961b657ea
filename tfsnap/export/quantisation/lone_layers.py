"""Tries a network with one layer quantised and all others in float16."""

import dataclasses
import functools
import pathlib
from collections.abc import Mapping, Sequence

import numpy as np

from tfsnap.export.keras_components import Call
from tfsnap.export.quantisation.trials import QuantisedNetwork, distance_db
from tfsnap.runtime.interpreter import Network

_CHUNKS = 16  # More are quicker to write, and pass more tensors.


@dataclasses.dataclass
class _Chunk:
    network: QuantisedNetwork
    float16: Network


class LoneLayers:
    """Computes a network again from a layer on, not from its beginning.

    Before the layer nothing changes. So the network is cut in chunks, which are loaded in float16
    and evaluated once; for a layer its chunk is written and loaded, and it and those behind it are
    evaluated. Against the network as a whole that is half of the evaluating and nearly none of the
    writing and loading.

    Args:
      network: the network.
      calls: inputs, and what Keras makes of them.
      path: a file for chunks, which is removed at the end.
    """

    def __init__(self, network: QuantisedNetwork, calls: Sequence[Call], path: pathlib.Path):
        self._network = network
        self._calls = calls
        self._path = path

    def psnr_db(self, layer: str) -> float:
        """How near the network is to Keras with that layer alone quantised."""
        place = next(i for i, chunk in enumerate(self._chunks) if layer in chunk.network.layers)
        network = self._chunks[place].network
        quantised = network.loaded(network.layers.keys() - {layer}, self._path)
        changed = [quantised, *(chunk.float16 for chunk in self._chunks[place + 1 :])]
        return distance_db(self._calls, [_run(changed, known) for known in self._known])

    @functools.cached_property
    def _chunks(self) -> list[_Chunk]:
        parts = self._network.chunks(min(_CHUNKS, len(self._network.layers)))
        return [_Chunk(part, part.loaded(part.layers, self._path)) for part in parts]

    @functools.cached_property
    def _known(self) -> list[dict[str, np.ndarray]]:
        """Inputs and what passes between chunks, for each call."""
        networks = [chunk.float16 for chunk in self._chunks]
        return [_run(networks, inputs) for inputs, _ in self._calls]


def _run(networks: Sequence[Network], known: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Evaluates chunks in turn; returns what is known, and what they make instead or besides."""
    known = dict(known)
    for network in networks:
        known |= network(**{tensor.name: known[tensor.name] for tensor in network.inputs})
    return known
