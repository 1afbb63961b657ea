"""Networks that take turns in memory."""

from collections.abc import Callable
from typing import Any

import numpy as np

from tfsnap.runtime.chunked import ChunkedNetwork
from tfsnap.runtime.interpreter import Backend, Network
from tfsnap.runtime.manifest import TensorSpec
from tfsnap.runtime.weight_cache import CachedNetwork

Loaded = Network | CachedNetwork | ChunkedNetwork


class Shelf:
    """Room for one network: what is on it is freed before the next is loaded."""

    def __init__(self):
        self._owner: Any = None
        self._network: Loaded | None = None

    def take(self, owner: object, load: Callable[[], Loaded]) -> Loaded:
        """Returns the network of an owner, loaded unless it was the last that was taken."""
        if owner is not self._owner:
            self._owner = self._network = None  # Before the next is loaded.
            self._network, self._owner = load(), owner
        return self._network


class ShelvedNetwork:
    """A network that shares a shelf with others, behind the interface of a `Network`.

    It is loaded when it is run after another: a picture loads its text encoder, its UNet and its
    decoder once each, whatever the number of steps, and needs the memory of the largest.

    Args:
      load: loads the network.
      shelf: where it is kept.

    Attributes:
      backend: the interpreter package.
      inputs: the inputs of the signature.
      outputs: its outputs.
    """

    def __init__(self, load: Callable[[], Loaded], shelf: Shelf):
        self._load = load
        self._shelf = shelf
        self._arrays: dict[str, np.ndarray] = {}
        network = self._take()
        self.backend: Backend = network.backend
        self.inputs: tuple[TensorSpec, ...] = network.inputs
        self.outputs: tuple[TensorSpec, ...] = network.outputs
        self._delegate = network.delegate()

    def __call__(self, **arrays: np.ndarray) -> dict[str, np.ndarray]:
        """As `Network.__call__`."""
        return self._take()(**arrays)

    def set(self, **arrays: np.ndarray) -> None:
        """Keeps inputs, for `invoke`."""
        self._arrays |= arrays

    def invoke(self) -> None:
        """Evaluates the network on the inputs that were set."""
        network = self._take()
        network.set(**self._arrays)
        network.invoke()

    def delegate(self) -> str:
        """As `Network.delegate`."""
        return self._delegate

    def _take(self) -> Loaded:
        return self._shelf.take(self, self._load)
