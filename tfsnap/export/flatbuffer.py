"""Edits of a converted flatbuffer that the converter has no option for."""

import flatbuffers
import numpy as np
from tensorflow.lite.python import schema_py_generated as schema

_FILE_IDENTIFIER = b"TFL3"


def widen_gathered_tables(model: bytes) -> bytes:
    """Stores the tables that GATHER reads as float32 instead of float16.

    The fp16 conversion makes every constant float16 with a DEQUANTIZE behind it. GPU delegates fold
    that into convolutions and matrix products, but refuse a GATHER of it: the embedding table of a
    text encoder is the one constant that has to stay float32.

    Args:
      model: a TFLite flatbuffer with one subgraph.

    Returns:
      The edited flatbuffer; `model` itself where no table is gathered.
    """
    parsed = schema.ModelT.InitFromPackedBuf(model, 0)
    graph = parsed.subgraphs[0]
    widened = {op.outputs[0]: op for op in graph.operators if _is(parsed, op, "DEQUANTIZE")}
    gathers = [
        op for op in graph.operators if _is(parsed, op, "GATHER") and op.inputs[0] in widened
    ]
    if not gathers:
        return model
    for gather in gathers:
        dequantize = widened[gather.inputs[0]]
        table = graph.tensors[dequantize.inputs[0]]
        buffer = parsed.buffers[table.buffer]
        halves = np.asarray(buffer.data, np.uint8).view(np.float16)
        buffer.data = halves.astype(np.float32).view(np.uint8)
        table.type = schema.TensorType.FLOAT32
        gather.inputs = [dequantize.inputs[0], *gather.inputs[1:]]
    read = {tensor for op in graph.operators for tensor in op.inputs}
    graph.operators = [
        op for op in graph.operators if not _is(parsed, op, "DEQUANTIZE") or op.outputs[0] in read
    ]
    builder = flatbuffers.Builder(len(model))
    builder.Finish(parsed.Pack(builder), _FILE_IDENTIFIER)
    return bytes(builder.Output())


def _is(model: schema.ModelT, op: schema.OperatorT, name: str) -> bool:
    code = model.operatorCodes[op.opcodeIndex]
    # Old files keep the code in a byte, new ones in an int; the larger is the real one.
    found = max(code.builtinCode, code.deprecatedBuiltinCode)
    return found == getattr(schema.BuiltinOperator, name)
