"""One file for a network in several sizes, with one copy of the weights."""

import hashlib
from collections.abc import Mapping

from tfsnap.export.packing import data_of
from tfsnap.export.schema import schema


def merge(models: Mapping[str, schema.ModelT]) -> schema.ModelT:
    """Merges networks into one of a subgraph and a signature each.

    Args:
      models: by the name that its signature is to have, each of one subgraph and one signature; the
        first is the one that a reader of the first subgraph alone sees. Their objects become the
        result's.

    Returns:
      The network; constants of equal bytes are there once.
    """
    merged = schema.ModelT(operatorCodes=[], subgraphs=[], buffers=[schema.BufferT()])
    merged.signatureDefs = []
    buffers: dict[bytes, int] = {}
    codes: dict[tuple, int] = {}
    for key, model in models.items():
        merged.version, merged.description = model.version, model.description
        (graph,), (signature,) = model.subgraphs, model.signatureDefs
        # Buffers of equal constants and equal operators get one number in the result.
        places = [_place(merged, buffers, buffer) for buffer in model.buffers]
        numbers = [_number(merged, codes, code) for code in model.operatorCodes]
        for tensor in graph.tensors:
            tensor.buffer = places[tensor.buffer]
        for op in graph.operators:
            op.opcodeIndex = numbers[op.opcodeIndex]
        signature.signatureKey, signature.subgraphIndex = key, len(merged.subgraphs)
        merged.subgraphs.append(graph)
        merged.signatureDefs.append(signature)
    return merged


def _place(merged: schema.ModelT, known: dict[bytes, int], buffer: schema.BufferT) -> int:
    data = data_of(buffer)
    if not data.size:
        return 0  # The empty buffer, of everything that is no constant.
    digest = hashlib.sha256(data).digest()
    if digest not in known:
        known[digest] = len(merged.buffers)
        merged.buffers.append(buffer)
    return known[digest]


def _number(merged: schema.ModelT, known: dict[tuple, int], code: schema.OperatorCodeT) -> int:
    key = (code.builtinCode, code.deprecatedBuiltinCode, code.customCode, code.version)
    if key not in known:
        known[key] = len(merged.operatorCodes)
        merged.operatorCodes.append(code)
    return known[key]
