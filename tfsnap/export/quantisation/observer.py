"""Runs a network on recorded inputs and keeps what its activations are like."""

import collections
import copy
import pathlib
from collections.abc import Iterable

import numpy as np

from tfsnap.export.flatbuffer import ConvertedModel
from tfsnap.export.keras_components import Call
from tfsnap.export.precision import store_as_int8
from tfsnap.export.quantisation.activations import tensors_to_observe
from tfsnap.export.rules.recorder import RecordingNetwork
from tfsnap.export.tflite_graph import TFLiteGraph

_SAMPLE = 512  # Values that are kept of a tensor in one evaluation, its extremes among them.
_QUANTILES = np.linspace(0.0, 1.0, 1025)


class SamplingNetwork(RecordingNetwork):
    """A network that keeps random values of tensors, and their extremes."""

    def __init__(self, model: pathlib.Path, returned: Iterable[str]):
        super().__init__(model, returned=frozenset(returned))
        self._random = np.random.default_rng(0)
        self._values: dict[str, list[np.ndarray]] = collections.defaultdict(list)

    def note(self, name: str, values: np.ndarray) -> None:
        values = values.ravel()
        if values.size > _SAMPLE:
            ends = values.min(), values.max()
            chosen = values[self._random.integers(0, values.size, _SAMPLE - len(ends))]
            values = np.concatenate([ends, chosen])
        self._values[name].append(values)

    def observed(self) -> dict[str, np.ndarray]:
        """Quantiles of each tensor's values, float32 and sorted."""
        return {
            name: np.quantile(np.concatenate(values), _QUANTILES).astype(np.float32)
            for name, values in self._values.items()
        }


def observe(graph: TFLiteGraph, calls: Iterable[Call], path: pathlib.Path) -> dict[str, np.ndarray]:
    """Records the activations of the layers that can be quantised.

    The weights are int8 and activations floats, quantised where they are used: at Stable
    Diffusion's size a network in floats would not fit into the memory that an export may take.

    Args:
      graph: the network, its weights not yet stored; it is left as it is.
      calls: inputs to run it on; outputs are ignored.
      path: a file for the network, which is removed at the end.

    Returns:
      Values by tensor, see `NetworkCalibration.observed`.
    """
    graph = copy.deepcopy(graph)
    wanted = tensors_to_observe(graph)
    store_as_int8(graph)
    made = [index for index in wanted if graph.maker(index) is not None]
    graph.outputs += sorted(set(made) - set(graph.outputs))
    try:
        ConvertedModel(path.name, *graph.packed()).save(path)
        network = SamplingNetwork(path, map(graph.name, wanted))
        for inputs, _ in calls:
            network(**inputs)
    finally:
        path.unlink(missing_ok=True)
    return network.observed()
