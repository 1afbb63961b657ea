"""Tries out which layers of a network may have integer activations."""

import copy
import pathlib
from collections.abc import Collection, Mapping, Sequence

import numpy as np

from tfsnap.export.chunks import split
from tfsnap.export.flatbuffer import ConvertedModel
from tfsnap.export.keras_components import Call
from tfsnap.export.parity import psnr_db
from tfsnap.export.quantisation.activations import layers_of, store_as_integers
from tfsnap.export.quantisation.formats import ActivationFormat
from tfsnap.export.quantisation.ranges import Range
from tfsnap.export.tflite_graph import TFLiteGraph
from tfsnap.runtime.interpreter import Network, load


class QuantisedNetwork:
    """A network of which some layers are quantised and others kept in float16.

    Args:
      name: of the network, for messages.
      graph: the network, its weights not yet stored; it is left as it is.
      form: of the activations.
      ranges: of the activations, by the name of the tensor.

    Attributes:
      layers: what can be quantised, by the name of the output.
    """

    def __init__(
        self, name: str, graph: TFLiteGraph, form: ActivationFormat, ranges: Mapping[str, Range]
    ):
        self.name = name
        self.layers = layers_of(graph)
        self._graph = graph
        self._form = form
        self._ranges = ranges

    def model(self, kept: Collection[str] = ()) -> ConvertedModel:
        """The network with those of some layers kept that it has; others are quantised.

        Raises:
          MissingRangeError: it was calibrated at another size.
        """
        graph = copy.deepcopy(self._graph)
        kept = set(kept) & set(self.layers)
        store_as_integers(graph, self._form, self._ranges, kept=kept)
        return ConvertedModel(f"{self.name} in {self._form.dtype}", *graph.packed())

    def chunks(self, count: int) -> "list[QuantisedNetwork]":
        """The network in parts that run one after another, see `tfsnap.export.chunks.split`."""
        whole = ConvertedModel(self.name, *copy.deepcopy(self._graph).packed())
        graphs = [TFLiteGraph(part.model, part.data) for part in split(whole, count)]
        return [QuantisedNetwork(self.name, graph, self._form, self._ranges) for graph in graphs]

    def loaded(self, kept: Collection[str], path: pathlib.Path) -> Network:
        """The network in the interpreter, with some layers kept.

        Args:
          kept: layers.
          path: a file for the network, which is removed at the end.
        """
        try:
            self.model(kept).save(path)
            return load(path, name=self.name)
        finally:
            path.unlink(missing_ok=True)  # What is mapped of it stays until it is let go.

    def psnr_db(self, kept: Collection[str], calls: Sequence[Call], path: pathlib.Path) -> float:
        """How near it is to Keras with some layers kept.

        Args:
          kept: layers.
          calls: inputs, and what Keras makes of them.
          path: a file for the network, which is removed at the end.
        """
        network = self.loaded(kept, path)
        return distance_db(calls, [network(**inputs) for inputs, _ in calls])


def distance_db(calls: Sequence[Call], found: Sequence[Mapping[str, np.ndarray]]) -> float:
    """PSNR of all outputs together.

    Args:
      calls: inputs, and what Keras makes of them.
      found: what a network makes of them; it may hold more.
    """
    pairs = [
        (outputs[key].ravel(), result[key].ravel())
        for (_, outputs), result in zip(calls, found, strict=True)
        for key in outputs
    ]
    return psnr_db(*(np.concatenate(side) for side in zip(*pairs, strict=True)))
