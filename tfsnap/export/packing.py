"""TFLite flatbuffers as the schema's objects and back."""

import flatbuffers
import numpy as np

from tfsnap.export.schema import FILE_IDENTIFIER, schema

_ALIGNMENT = 16  # Of the data of a buffer, as the schema demands; its Python writer does not.


class _Buffer(schema.BufferT):
    """A buffer whose data are aligned in the file."""

    def Pack(self, builder: flatbuffers.Builder) -> int:  # noqa: N802  (The schema's name.)
        size = len(self.data)
        builder.StartVector(1, size, _ALIGNMENT)
        builder.head -= size
        builder.Bytes[builder.head : builder.head + size] = memoryview(self.data)
        data = builder.EndVector()
        schema.BufferStart(builder)
        schema.BufferAddData(builder, data)
        return schema.BufferEnd(builder)


def unpack(content: bytes) -> schema.ModelT:
    """Returns the objects of a flatbuffer; the data of its buffers are views."""
    return schema.ModelT.InitFromPackedBuf(content, 0)


def data_of(buffer: schema.BufferT) -> np.ndarray:
    """The bytes of a buffer, none where it has no data."""
    return np.asarray([] if buffer.data is None else buffer.data, np.uint8)


def pack(model: schema.ModelT) -> bytes:
    """Returns the flatbuffer of a model, the data of its buffers aligned."""
    constants = [data_of(buffer) for buffer in model.buffers]
    model.buffers = [_Buffer(data=data) if data.size else schema.BufferT() for data in constants]
    # Room for all from the start: the builder would copy everything each time that it grows.
    room = sum(data.size + 64 for data in constants)
    builder = flatbuffers.Builder((1 << 20) + room)
    builder.Finish(model.Pack(builder), FILE_IDENTIFIER)
    return bytes(builder.Output())
