"""A TFLite graph under edit: operators by name, constants that are read when they are written."""

import collections
import dataclasses
import math
from collections.abc import Mapping
from typing import Self

import numpy as np

from tfsnap.export.schema import operator_code, operator_name, schema
from tfsnap.weights.lazy import LazyTensor

ABSENT = -1  # Index of an optional input that an operator lacks.
_TYPES = {
    "float32": schema.TensorType.FLOAT32,
    "float16": schema.TensorType.FLOAT16,
    "int8": schema.TensorType.INT8,
    "int16": schema.TensorType.INT16,
    "int32": schema.TensorType.INT32,
    "int64": schema.TensorType.INT64,
    "bool": schema.TensorType.BOOL,
}
_DTYPES = {number: np.dtype(name) for name, number in _TYPES.items()}


@dataclasses.dataclass(eq=False)
class Operator:
    """One operator.

    Attributes:
      name: "CONV_2D".
      version: the least that a runtime must know of it.
      inputs: indices of tensors, `ABSENT` for those left out.
      outputs: indices of tensors.
      packed: the schema's object, for the options.
    """

    name: str
    version: int
    inputs: list[int]
    outputs: list[int]
    packed: schema.OperatorT = dataclasses.field(default_factory=schema.OperatorT)


class TFLiteGraph:
    """The one subgraph of a converted model.

    Args:
      model: the schema's object, which becomes the graph's own.
      data: what its buffers hold, by number, as `packed` returns it.

    Attributes:
      operators: in the order in which they run.
      constants: values of the tensors that have one, by index.
      outputs: indices of the tensors that the graph returns.
    """

    def __init__(self, model: schema.ModelT, data: Mapping[int, LazyTensor]):
        self._model = model
        (self._graph,) = self._model.subgraphs
        self._tensors: list[schema.TensorT] = self._graph.tensors
        self.operators = [self._operator(packed) for packed in self._graph.operators]
        self.outputs = list(self._graph.outputs)
        self.constants = {
            index: data[tensor.buffer]
            for index, tensor in enumerate(self._tensors)
            if tensor.buffer in data
        }
        self._makers = {index: op for op in self.operators for index in op.outputs}
        self._readers: dict[int, list[Operator]] = collections.defaultdict(list)
        for op in self.operators:
            self._count(op)

    @classmethod
    def parse(cls, content: bytes) -> Self:
        """The graph of a flatbuffer."""
        model = schema.ModelT.InitFromPackedBuf(content, 0)
        (graph,) = model.subgraphs
        data = {}
        for number, tensor in enumerate(graph.tensors, start=1):
            stored = model.buffers[tensor.buffer].data
            if stored is not None and len(stored):
                # Equal bytes share a buffer, zeros of a bias and of a slice's begin among them:
                # each tensor has a number of its own, since their types and shapes are theirs.
                tensor.buffer = number
                data[number] = _held(np.asarray(stored).view(_DTYPES[tensor.type]), tensor)
        return cls(model, data)

    def _operator(self, packed: schema.OperatorT) -> Operator:
        code = self._model.operatorCodes[packed.opcodeIndex]
        # Old files keep the code in a byte, new ones in an int; the larger is the real one.
        name = operator_name(max(code.builtinCode, code.deprecatedBuiltinCode))
        return Operator(name, code.version, list(packed.inputs), list(packed.outputs), packed)

    def _count(self, op: Operator) -> None:
        for index in set(op.inputs) - {ABSENT}:
            self._readers[index].append(op)

    def shape(self, index: int) -> tuple[int, ...]:
        """Shape of a tensor."""
        return _shape(self._tensors[index])

    def name(self, index: int) -> str:
        """Name of a tensor, for people: where in the network it comes from."""
        name = self._tensors[index].name
        return name.decode() if isinstance(name, bytes) else name

    def maker(self, index: int) -> Operator | None:
        """The operator whose output a tensor is."""
        return self._makers.get(index)

    def readers(self, index: int) -> list[Operator]:
        """The operators that take a tensor, each once."""
        return list(self._readers[index])

    def only_reader(self, index: int) -> Operator | None:
        """The operator that alone takes a tensor, which the graph does not return; or None."""
        readers = self._readers[index]
        return readers[0] if len(readers) == 1 and index not in self.outputs else None

    def bind(self, values: Mapping[str, LazyTensor]) -> None:
        """Makes arguments constants.

        Args:
          values: by the name of the argument in the signature.
        """
        (signature,) = self._model.signatureDefs
        for entry in signature.inputs:
            name = entry.name.decode() if isinstance(entry.name, bytes) else entry.name
            if name in values:
                self.constants[entry.tensorIndex] = values[name]
        bound = self.constants.keys()
        signature.inputs = [entry for entry in signature.inputs if entry.tensorIndex not in bound]
        self._graph.inputs = [index for index in self._graph.inputs if index not in bound]

    def add_tensor(self, name: str, shape: tuple[int, ...], dtype: str) -> int:
        """Adds a tensor that an operator will make, and returns its index."""
        tensor = schema.TensorT(shape=list(shape), type=_TYPES[dtype], name=name, hasRank=True)
        self._tensors.append(tensor)
        return len(self._tensors) - 1

    def add_constant(self, name: str, value: LazyTensor) -> int:
        """Adds a constant and returns its index."""
        index = self.add_tensor(name, value.shape, value.dtype.name)
        self.constants[index] = value
        return index

    def quantise(
        self, index: int, scales: np.ndarray, axis: int = 0, *, zero_point: int = 0
    ) -> None:
        """Notes how a tensor of integers is quantised.

        Args:
          index: the tensor.
          scales: one, or one for each index of the axis.
          axis: of the scales, where there are several.
          zero_point: the integer that is zero.
        """
        self._tensors[index].quantization = schema.QuantizationParametersT(
            scale=scales.astype(np.float32),
            zeroPoint=np.full(scales.size, zero_point, np.int64),
            quantizedDimension=axis if scales.size > 1 else 0,
        )

    def scales(self, index: int) -> int:
        """How many scales a tensor is quantised with."""
        quantization = self._tensors[index].quantization
        return 0 if quantization is None or quantization.scale is None else len(quantization.scale)

    def copy_quantisation(self, source: int, target: int) -> None:
        """Notes that a tensor is quantised as another is."""
        self._tensors[target].quantization = self._tensors[source].quantization

    def rewire(self, op: Operator, inputs: list[int]) -> None:
        """Gives an operator other inputs."""
        for index in set(op.inputs) - {ABSENT}:
            self._readers[index].remove(op)
        op.inputs = list(inputs)
        self._count(op)

    def redirect(self, old: int, new: int) -> None:
        """Makes everyone who reads one tensor read another."""
        for op in self.readers(old):
            self.rewire(op, [new if index == old else index for index in op.inputs])

    def take_output(self, op: Operator, index: int) -> None:
        """Makes an operator the maker of a tensor, instead of the one it made."""
        self._makers.pop(op.outputs[0], None)
        op.outputs = [index]
        self._makers[index] = op

    def insert(self, op: Operator, *, behind: Operator | None = None) -> None:
        """Adds an operator behind another, or before all."""
        place = 0 if behind is None else self.operators.index(behind) + 1
        self.operators.insert(place, op)
        self._makers.update(dict.fromkeys(op.outputs, op))
        self._count(op)

    def remove(self, op: Operator) -> None:
        """Removes an operator."""
        self.operators.remove(op)
        self.rewire(op, [])
        for index in op.outputs:
            if self._makers.get(index) is op:
                del self._makers[index]

    def remove_unread(self) -> None:
        """Removes operators that nothing depends on."""
        for op in reversed(list(self.operators)):
            if not any(self._readers[index] or index in self.outputs for index in op.outputs):
                self.remove(op)

    def packed(self) -> tuple[schema.ModelT, dict[int, LazyTensor]]:
        """Returns the model without what no operator needs, and the data of its buffers by number.

        The buffers themselves are left out.
        """
        places = self._number_tensors()
        model, graph = self._model, self._graph
        data = {}
        for index in places:
            tensor = self._tensors[index]
            tensor.buffer = 0  # The empty buffer, of everything that is no constant.
            if index in self.constants:
                tensor.buffer = len(data) + 1
                data[tensor.buffer] = self.constants[index]
        model.buffers = None
        graph.tensors = [self._tensors[index] for index in places]
        graph.inputs = [places[index] for index in graph.inputs]
        graph.outputs = [places[index] for index in self.outputs]
        (signature,) = model.signatureDefs
        for entry in (*signature.inputs, *signature.outputs):
            entry.tensorIndex = places[entry.tensorIndex]
        graph.operators = self._pack_operators(places)
        # Their buffers are gone; the runtime version in them was that of the unedited graph.
        model.metadata = model.metadataBuffer = None
        return model, data

    def _number_tensors(self) -> dict[int, int]:
        used = {index for op in self.operators for index in (*op.inputs, *op.outputs)}
        used |= {*self._graph.inputs, *self.outputs}
        return {old: new for new, old in enumerate(sorted(used - {ABSENT}))}

    def _pack_operators(self, places: dict[int, int]) -> list[schema.OperatorT]:
        codes: dict[tuple[str, int], int] = {}
        for op in self.operators:
            op.packed.opcodeIndex = codes.setdefault((op.name, op.version), len(codes))
            op.packed.inputs = [places.get(index, ABSENT) for index in op.inputs]
            op.packed.outputs = [places[index] for index in op.outputs]
        self._model.operatorCodes = [_code(name, version) for name, version in codes]
        return [op.packed for op in self.operators]


def _shape(tensor: schema.TensorT) -> tuple[int, ...]:
    return () if tensor.shape is None else tuple(int(side) for side in tensor.shape)


def _held(array: np.ndarray, tensor: schema.TensorT) -> LazyTensor:
    shape = _shape(tensor)
    return LazyTensor(shape, array.dtype, lambda: array.reshape(shape))


def _code(name: str, version: int) -> schema.OperatorCodeT:
    number = operator_code(name)
    # Readers of the old field take 127 as a sign to look at the new one.
    return schema.OperatorCodeT(
        builtinCode=number, deprecatedBuiltinCode=min(number, 127), version=version
    )


def size(shape: tuple[int, ...]) -> int:
    """How many numbers a tensor of a shape holds."""
    return math.prod(shape)
