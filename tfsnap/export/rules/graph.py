"""A TFLite flatbuffer as operators with shapes and types. Weights are not read."""

import contextlib
import dataclasses
import mmap
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from ai_edge_litert import schema_py_generated as schema

_IDENTIFIER = b"TFL3"
_SMALL = 64  # Elements. Axes and strides are read, weights are not.
# Options that rules ask for, by the flatbuffer's names.
_FIELDS = {
    "CONCATENATION": ("Axis",),
    "SOFTMAX": ("Beta",),
    "STRIDED_SLICE": ("EllipsisMask", "NewAxisMask", "ShrinkAxisMask"),
}
_NUMPY = {"INT32": np.int32, "INT64": np.int64}
# What reading at a wrong offset raises. ValueError is numpy's, and that of text that is none.
_DAMAGE = (
    struct.error,
    LookupError,
    TypeError,
    AttributeError,
    ValueError,
    ArithmeticError,
    MemoryError,
)


def _names(enumeration: type) -> dict[int, str]:
    return {value: name for name, value in vars(enumeration).items() if isinstance(value, int)}


_BUILTINS = _names(schema.BuiltinOperator)
_TYPES = _names(schema.TensorType)
_OPTIONS = _names(schema.BuiltinOptions)


@dataclasses.dataclass(frozen=True)
class Tensor:
    """An edge of the graph.

    Attributes:
      name: as the converter wrote it.
      shape: sizes; -1 where one is only known at run time.
      type: such as "FLOAT32".
      stored: whether its values are in the file.
      constant: whether it is stored, or unpacked from a stored tensor by a DEQUANTIZE, as weights
        in half precision are.
      quantized: whether it has a scale.
      values: of a small stored tensor of integers; else None.
    """

    name: str
    shape: tuple[int, ...]
    type: str
    stored: bool
    constant: bool
    quantized: bool
    values: tuple[int, ...] | None

    def __str__(self) -> str:
        """Type and shape."""
        return f"{self.type.lower()}{list(self.shape)}"


@dataclasses.dataclass(frozen=True)
class Operator:
    """A node of the graph.

    Attributes:
      index: its place in the order of execution.
      builtin: such as "CONV_2D", or "CUSTOM".
      custom: name of a custom operator, such as "FlexErf"; else "".
      version: of the builtin.
      inputs: an optional input that is left out is None.
      outputs: its results.
      options: those that rules ask for, by the flatbuffer's names, such as "ShrinkAxisMask".
    """

    index: int
    builtin: str
    custom: str
    version: int
    inputs: tuple[Tensor | None, ...]
    outputs: tuple[Tensor, ...]
    options: dict[str, Any]

    @property
    def layer(self) -> str:
        """Where the network computes it: layer address and TensorFlow's name of the operation."""
        # The last operator's output is named after the call; its weights know the layer.
        names = [t.name for t in (*self.outputs[:1], *reversed(self.operands))]
        name = next((name for name in names if "/" in name), names[0] if names else "")
        segments = name.split(";")[0].split("/")
        # Addresses have dots and hold their parents'; what follows is TensorFlow's.
        addresses = [i for i, segment in enumerate(segments) if "." in segment]
        return "/".join(segments[addresses[-1] if addresses else -2 :])

    @property
    def operands(self) -> tuple[Tensor, ...]:
        """The inputs that are there."""
        return tuple(tensor for tensor in self.inputs if tensor is not None)

    @property
    def tensors(self) -> tuple[Tensor, ...]:
        """Inputs and outputs."""
        return self.operands + self.outputs

    def shapes(self) -> str:
        """All inputs and outputs as text."""
        arrow = (", ".join(map(str, side)) for side in (self.operands, self.outputs))
        return " -> ".join(arrow)


@dataclasses.dataclass(frozen=True)
class Graph:
    """One subgraph.

    Attributes:
      operators: in the order of execution.
      name: its signature, or "subgraph 1" where it has none, as the body of a loop; "" where it is
        the only one of its file.
    """

    operators: tuple[Operator, ...]
    name: str = ""


@contextlib.contextmanager
def told_as_damage(name: str) -> Iterator[None]:
    """Turns what damaged files make of offsets, counts and shapes into one line.

    Nothing in a flatbuffer guards against flipped bytes, so that any lookup may fail, here and in
    the rules, which expect of an operator the inputs that its schema asks for.

    Args:
      name: of the model, for the message.
    """
    try:
        yield
    except _DAMAGE as error:
        raise ValueError(
            f"{name} is damaged or cut short ({in_one_line(error)}): copy or export it again"
        ) from error


def in_one_line(error: Exception) -> str:
    """What an error says, or what it is where it says nothing."""
    return " ".join(str(error).split()) or type(error).__name__


def read_graphs(model: Path | bytes, *, name: str) -> list[Graph]:
    """Reads the subgraphs of a model.

    Args:
      model: path or content of the file.
      name: how to call it in messages.

    Returns:
      The subgraphs; the first is what runs.

    Raises:
      ValueError: the file is no TFLite model, or is cut short.
    """
    if isinstance(model, bytes):
        return _read(model, name)
    with open(model, "rb") as file:
        if not file.read(1):
            raise ValueError(f"{name} is empty, and no TFLite model")
        # Not closed here, but when the last array that looks into it is gone: an error's traceback
        # holds some, and closing under them would hide it.
        return _read(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ), name)


def _read(content: bytes | mmap.mmap, name: str) -> list[Graph]:
    if content[4:8] != _IDENTIFIER:
        raise ValueError(f"{name} is no TFLite model: bytes 5 to 8 are {bytes(content[4:8])!r}")
    with told_as_damage(name):
        model = schema.Model.GetRootAs(content, 0)
        count = model.SubgraphsLength()
        if not count:
            raise IndexError("it has no subgraph")
        keys = _signatures(model) if count > 1 else {0: ""}
        return [
            _Reader(model, model.Subgraphs(i), len(content)).graph(keys.get(i, f"subgraph {i}"))
            for i in range(count)
        ]


def _signatures(model: schema.Model) -> dict[int, str]:
    """Keys of the signatures by the place of their subgraph."""
    found = [model.SignatureDefs(i) for i in range(model.SignatureDefsLength())]
    return {one.SubgraphIndex(): one.SignatureKey().decode() for one in found}


class _Reader:
    """Reads one subgraph."""

    def __init__(self, model: schema.Model, subgraph: schema.SubGraph, size: int):
        self._model = model
        self._subgraph = subgraph
        self._size = size
        self._tensors = [self._tensor(i) for i in range(subgraph.TensorsLength())]

    def graph(self, name: str) -> Graph:
        count = self._subgraph.OperatorsLength()
        return Graph(tuple(self._operator(i) for i in range(count)), name)

    def _tensor(self, index: int) -> Tensor:
        raw = self._subgraph.Tensors(index)
        shape = raw.ShapeSignatureAsNumpy() if raw.ShapeSignatureLength() else raw.ShapeAsNumpy()
        sizes = () if isinstance(shape, int) else tuple(map(int, shape))
        kind = _TYPES[raw.Type()]
        buffer = self._model.Buffers(raw.Buffer())
        stored = buffer.DataLength() > 0 or buffer.Size() > 0
        if stored and buffer.Offset() + buffer.Size() > self._size:
            raise IndexError(f"the values of {raw.Name().decode()} are beyond its end")
        data = buffer.DataAsNumpy() if buffer.DataLength() > 0 else None  # Fails beyond the end.
        small = data is not None and kind in _NUMPY and np.prod(sizes) <= _SMALL
        values = data.view(_NUMPY[kind]) if small else None
        quantization = raw.Quantization()
        return Tensor(
            name=raw.Name().decode(),
            shape=sizes,
            type=kind,
            stored=stored,
            constant=stored,
            quantized=quantization is not None and quantization.ScaleLength() > 0,
            values=None if values is None else tuple(map(int, values)),
        )

    def _operator(self, index: int) -> Operator:
        raw = self._subgraph.Operators(index)
        code = self._model.OperatorCodes(raw.OpcodeIndex())
        # Old files keep the code in a byte, new ones in an int; the larger is the real one.
        builtin = _BUILTINS[max(code.BuiltinCode(), code.DeprecatedBuiltinCode())]
        places = [raw.Inputs(i) for i in range(raw.InputsLength())]
        inputs = tuple(None if place < 0 else self._tensors[place] for place in places)
        results = [raw.Outputs(i) for i in range(raw.OutputsLength())]
        if builtin == "DEQUANTIZE" and inputs[0].stored:
            self._tensors[results[0]] = dataclasses.replace(
                self._tensors[results[0]], constant=True
            )
        return Operator(
            index=index,
            builtin=builtin,
            custom=(code.CustomCode() or b"").decode(),
            version=code.Version(),
            inputs=inputs,
            outputs=tuple(self._tensors[place] for place in results),
            options=_options(raw, builtin),
        )


def _options(raw: schema.Operator, builtin: str) -> dict[str, Any]:
    """Reads the options that rules ask for."""
    table = raw.BuiltinOptions()
    if table is None or builtin not in _FIELDS:
        return {}
    options = getattr(schema, _OPTIONS[raw.BuiltinOptionsType()])()
    options.Init(table.Bytes, table.Pos)
    return {name: getattr(options, name)() for name in _FIELDS[builtin]}
