"""One file for a network in several sizes, with one copy of the weights."""

import hashlib
from collections.abc import Mapping

import numpy as np

from tfsnap.export.flatbuffer import ConvertedModel
from tfsnap.export.schema import schema
from tfsnap.weights.lazy import LazyTensor


def merge(models: Mapping[str, ConvertedModel]) -> ConvertedModel:
    """Merges networks into one of a subgraph and a signature each.

    Args:
      models: by the name that its signature is to have, each of one subgraph and one signature; the
        first is the one that a reader of the first subgraph alone sees. Their objects become the
        result's.

    Returns:
      The network; constants of equal bytes are there once. To find them, each is read where there
      are several networks, and forgotten.
    """
    first = next(iter(models.values()))
    merged = schema.ModelT(version=first.model.version, description=first.model.description)
    merged.operatorCodes, merged.subgraphs, merged.signatureDefs = [], [], []
    pool = _Pool()
    codes: dict[tuple, int] = {}
    for key, part in models.items():
        (graph,), (signature,) = part.model.subgraphs, part.model.signatureDefs
        # Equal constants and equal operators get one number in the result.
        places = {
            number: pool.place(value, shared=len(models) > 1) for number, value in part.data.items()
        }
        numbers = [_number(merged, codes, code) for code in part.model.operatorCodes]
        for tensor in graph.tensors:
            tensor.buffer = places.get(tensor.buffer, 0)
        for op in graph.operators:
            op.opcodeIndex = numbers[op.opcodeIndex]
        signature.signatureKey, signature.subgraphIndex = key, len(merged.subgraphs)
        merged.subgraphs.append(graph)
        merged.signatureDefs.append(signature)
    return ConvertedModel(first.name, merged, pool.data)


class _Pool:
    """The constants of a merged network.

    Attributes:
      data: by the number of their buffer; 0 is the empty buffer, of everything that is no constant.
    """

    def __init__(self):
        self.data: dict[int, LazyTensor] = {}
        self._known: dict[bytes, int] = {}

    def place(self, value: LazyTensor, *, shared: bool) -> int:
        """Returns the number of a constant, that of an equal one if there may be any."""
        free = len(self.data) + 1
        number = self._known.setdefault(_digest(value), free) if shared else free
        self.data.setdefault(number, value)
        return number


def _digest(value: LazyTensor) -> bytes:
    array = np.ascontiguousarray(value.read(), value.dtype)
    return hashlib.sha256(array.reshape(-1).view(np.uint8).data).digest()


def _number(merged: schema.ModelT, known: dict[tuple, int], code: schema.OperatorCodeT) -> int:
    key = (code.builtinCode, code.deprecatedBuiltinCode, code.customCode, code.version)
    if key not in known:
        known[key] = len(merged.operatorCodes)
        merged.operatorCodes.append(code)
    return known[key]
