"""Gives the products of a graph integer activations: operators in between stay in floats.

Convolutions and fully-connected layers are nearly all of the work. Norms, activation functions and
residual sums are not: they stay float32, because eight bits of a variance or of a sum over all
blocks cost more quality than they save time. So does attention between its projections: over 4,096
keys its weights are about 1/4,096, and eight bits have steps of 1/255 of the largest.
"""

import copy
from collections.abc import Collection, Mapping

import numpy as np

from tfsnap.errors import TfsnapError
from tfsnap.export.folding import AFFINE
from tfsnap.export.precision import (
    PER_TENSOR,
    quantise_weights,
    store_layers_as_float16,
    store_tables_as_int8,
)
from tfsnap.export.quantisation.formats import ActivationFormat
from tfsnap.export.quantisation.ranges import Range
from tfsnap.export.tflite_graph import ABSENT, Operator, TFLiteGraph
from tfsnap.weights.lazy import LazyTensor

_BIAS_BITS = 30  # That a bias may take of the 31 of an int32, with room for the sum it is added to.


class MissingRangeError(TfsnapError, ValueError):
    """A tensor was not observed in the calibration."""


def layers_of(graph: TFLiteGraph) -> dict[str, Operator]:
    """The operators that can have integer activations, by the name of their output."""
    return {
        graph.name(op.outputs[0]): op
        for op in graph.operators
        if op.name in AFFINE and op.inputs[1] in graph.constants
    }


def tensors_to_observe(graph: TFLiteGraph) -> set[int]:
    """The activations whose ranges `store_as_integers` needs."""
    return {index for op in layers_of(graph).values() for index in (op.inputs[0], *op.outputs)}


def store_as_integers(
    graph: TFLiteGraph,
    form: ActivationFormat,
    ranges: Mapping[str, Range],
    *,
    kept: Collection[str] = (),
) -> None:
    """Quantises layers: int8 weights, integer inputs and outputs.

    A QUANTIZE comes before a layer and a DEQUANTIZE behind it, where there are floats. Layers that
    follow each other, through reshapes or not, pass integers on.

    Args:
      graph: is changed.
      form: of the activations.
      ranges: of the activations, by the name of the tensor.
      kept: names of layers that compute in floats, on float16 weights.

    Raises:
      MissingRangeError: a range is missing.
    """
    rewriter = _Rewriter(graph, form, ranges)
    layers = layers_of(graph)
    for name, op in layers.items():
        if name not in kept:
            rewriter.quantise(op)
    store_layers_as_float16(graph, [layers[name] for name in kept])
    store_tables_as_int8(graph)
    graph.remove_unread()


class _Rewriter:
    """Quantises the layers of a graph in the order in which they run."""

    def __init__(self, graph: TFLiteGraph, form: ActivationFormat, ranges: Mapping[str, Range]):
        self._graph = graph
        self._form = form
        self._ranges = ranges
        self._integers: dict[int, int] = {}  # The integer form of tensors of floats.
        self._scales: dict[int, float] = {}  # Of those.

    def quantise(self, op: Operator) -> None:
        """Gives a layer integer inputs, weights and output."""
        source = self._integer(op.inputs[0])
        constants = self._weights_and_bias(op, self._scales[source])
        self._graph.rewire(op, [source, *constants])
        op.version = max(op.version, self._form.versions[op.name])
        result = op.outputs[0]
        integers = self._add(result)
        self._graph.take_output(op, integers)
        self._insert("DEQUANTIZE", integers, result, behind=op)

    def _integer(self, index: int) -> int:
        """The integer form of a tensor, by an operator that there is already or by a QUANTIZE."""
        if index not in self._integers:
            if self._is_carried(index):
                self._carry(index)
            else:
                integers = self._add(index)
                self._insert("QUANTIZE", index, integers, behind=self._graph.maker(index))
        return self._integers[index]

    def _is_carried(self, index: int) -> bool:
        """Whether a tensor is made of integers by nothing but reshapes."""
        maker = self._graph.maker(index)
        if maker is None or maker.name != "RESHAPE":
            return False
        source = maker.inputs[0]
        return source in self._integers or self._is_carried(source)

    def _carry(self, index: int) -> None:
        """Puts a twin for integers beside the reshape that makes a tensor."""
        reshape = self._graph.maker(index)
        source = self._integer(reshape.inputs[0])
        integers = self._add_tensor(index)
        self._graph.copy_quantisation(source, integers)
        self._scales[integers] = self._scales[source]
        inputs, packed = [source, *reshape.inputs[1:]], copy.copy(reshape.packed)
        twin = Operator(reshape.name, reshape.version, inputs, [integers], packed)
        self._graph.insert(twin, behind=reshape)

    def _add(self, index: int) -> int:
        """Adds the integer form of a tensor, in the range that was recorded."""
        name = self._graph.name(index)
        if name not in self._ranges:
            raise MissingRangeError(
                f"the calibration has no range of {name}: give another --calibration, which is "
                "then recorded"
            )
        scale, zero_point = self._form.parameters(*self._ranges[name])
        integers = self._add_tensor(index)
        self._graph.quantise(integers, np.array([scale]), zero_point=zero_point)
        self._scales[integers] = scale
        return integers

    def _add_tensor(self, index: int) -> int:
        name = f"{self._graph.name(index)}/{self._form.dtype}"
        integers = self._graph.add_tensor(name, self._graph.shape(index), self._form.dtype)
        self._integers[index] = integers
        return integers

    def _insert(self, name: str, source: int, target: int, *, behind: Operator | None) -> None:
        op = Operator(name, self._form.versions[name], [source], [target])
        self._graph.insert(op, behind=behind)

    def _weights_and_bias(self, op: Operator, scale: float) -> list[int]:
        """Integer weights, and the bias in the unit of their products with the input."""
        bias = op.inputs[2] if len(op.inputs) > 2 else ABSENT
        if bias == ABSENT:
            weights, _ = quantise_weights(self._graph, op)
            return [weights, *op.inputs[2:]]
        value = self._graph.constants[bias]
        least = np.zeros(1)
        if self._form.bias.itemsize == 4:
            # Where weights are nearly nothing beside the bias, it would overflow in their unit.
            least = np.abs(value.read()) / (scale * 2.0**_BIAS_BITS)
        if op.name in PER_TENSOR:
            least = least.max()
        weights, scales = quantise_weights(self._graph, op, least=least)
        unit = scale * scales

        def change(array: np.ndarray) -> np.ndarray:
            return np.round(array / unit).astype(self._form.bias)

        integers = value.map(value.shape, change)
        stored = LazyTensor(value.shape, self._form.bias, integers.read)
        added = self._graph.add_constant(self._graph.name(bias), stored)
        self._graph.quantise(added, unit)
        return [weights, added]
