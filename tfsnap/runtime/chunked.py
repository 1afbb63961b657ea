"""A network that is stored in several files, which run one after another."""

from collections.abc import Callable, Collection, Sequence

import numpy as np

from tfsnap.runtime.interpreter import Backend, Network
from tfsnap.runtime.manifest import TensorSpec


class ChunkedNetwork:
    """Chunks behind the interface of a `Network`.

    A chunk reads inputs of the whole and outputs of chunks before it, by name.

    Args:
      loaders: load the chunks, in the order in which they run.
      outputs: names of what the whole returns.
      one_at_a_time: whether a chunk is loaded when it runs and freed before the next: the memory of
        the largest, and the time of loading in every evaluation.

    Attributes:
      inputs: the inputs that no chunk makes.
      outputs: those of `outputs` that a chunk makes.

    Raises:
      BundleError: a chunk cannot be loaded.
      ValueError: two chunks do not fit together.
    """

    def __init__(
        self,
        loaders: Sequence[Callable[[], Network]],
        *,
        outputs: Collection[str],
        one_at_a_time: bool,
    ):
        self._loaders = loaders
        self._loaded: list[Network] = []
        self._arrays: dict[str, np.ndarray] = {}
        read: dict[str, TensorSpec] = {}
        made: dict[str, TensorSpec] = {}
        for load in loaders:
            network = load()
            for tensor in network.inputs:
                if made.get(tensor.name, tensor) != tensor:
                    raise ValueError(f"a chunk reads {tensor}, made as {made[tensor.name]}")
                if tensor.name not in made:
                    read[tensor.name] = tensor
            made |= {tensor.name: tensor for tensor in network.outputs}
            self.backend: Backend = network.backend
            self._delegate = network.delegate()
            if not one_at_a_time:
                self._loaded.append(network)
            del network  # Before the next is loaded.
        self.inputs = tuple(read.values())
        self.outputs = tuple(tensor for tensor in made.values() if tensor.name in outputs)

    def __call__(self, **arrays: np.ndarray) -> dict[str, np.ndarray]:
        """As `Network.__call__`."""
        self.set(**arrays)
        known = self._run()
        return {tensor.name: known[tensor.name] for tensor in self.outputs}

    def set(self, **arrays: np.ndarray) -> None:
        """Keeps inputs, for `invoke`."""
        self._arrays |= arrays

    def invoke(self) -> None:
        """Evaluates the network on the inputs that were set."""
        self._run()

    def delegate(self) -> str:
        """As `Network.delegate`, of the last chunk."""
        return self._delegate

    def _run(self) -> dict[str, np.ndarray]:
        known = dict(self._arrays)
        for i, load in enumerate(self._loaders):
            network = self._loaded[i] if self._loaded else load()
            known |= network(**{tensor.name: known[tensor.name] for tensor in network.inputs})
            del network  # Before the next is loaded.
        return known
