"""Writes a TFLite flatbuffer tensor by tensor, so that it is never in memory as a whole."""

import functools
import io
import os
import struct
from collections.abc import Mapping
from typing import BinaryIO

import flatbuffers
import numpy as np

from tfsnap.export.schema import FILE_IDENTIFIER, schema
from tfsnap.weights.lazy import LazyTensor

LIMIT = 2**31 - 1  # Bytes of a flatbuffer: its offsets are 32-bit numbers with a sign.
_ALIGNMENT = 16  # Of the data of a buffer, as the schema demands.
_DATA_FIELD = 4  # Where the table of a `Buffer` says where its data is: its first field.


class ConvertedModel:
    """A TFLite model whose constants are read when it is written.

    Args:
      name: of the model, for messages.
      model: the schema's object but for its buffers.
      data: what the buffers hold, by number; there is none for the buffer 0.

    Attributes:
      name: of the model.
      model: the schema's object.
      data: what the buffers hold.
    """

    def __init__(self, name: str, model: schema.ModelT, data: Mapping[int, LazyTensor]):
        self.name = name
        self.model = model
        self.data = dict(data)

    @property
    def bytes(self) -> int:
        """Size of the file.

        Raises:
          ValueError: it would be larger than a flatbuffer can be.
        """
        header, places = self._layout
        return max([len(header), *(end for _, end in places.values())])

    @functools.cached_property
    def _layout(self) -> tuple[bytearray, dict[int, tuple[int, int]]]:
        """The file without the data of the buffers, and where those begin and end behind it."""
        some = np.zeros(1, np.uint8)  # Replaced by what follows.
        self.model.buffers = [
            schema.BufferT(data=some if number in self.data else None)
            for number in range(1 + max(self.data, default=0))
        ]
        builder = flatbuffers.Builder(1 << 20)
        builder.Finish(self.model.Pack(builder), FILE_IDENTIFIER)
        header = bytearray(builder.Output())
        places, end = {}, len(header)
        for number, value in self.data.items():
            # Four bytes of length, then the data.
            start = -(-(end + 4) // _ALIGNMENT) * _ALIGNMENT
            end = start + value.bytes
            places[number] = (start, end)
        if end > LIMIT:
            raise ValueError(
                f"{self.name} takes {end / 1e9:.2f} GB and a TFLite file ends at 2.15 GB: store "
                "its weights as int8, split a UNet with --chunks, or use a smaller network"
            )
        _point(header, places)
        return header, places

    def write(self, file: BinaryIO) -> None:
        """Writes the model to a file that is open, at its beginning.

        Raises:
          OSError: there is no space left.
          ValueError: it would be larger than a flatbuffer can be.
        """
        header, places = self._layout
        file.write(header)
        for number, (start, end) in places.items():
            file.write(b"\0" * (start - 4 - file.tell()))
            file.write(struct.pack("<I", end - start))
            value = self.data[number]
            array = np.ascontiguousarray(value.read(), value.dtype)
            if array.nbytes != end - start:
                raise ValueError(f"a weight is {array.shape}, announced as {value.shape}")
            file.write(array.reshape(-1).view(np.uint8).data)

    def save(self, path: str | os.PathLike) -> None:
        """Writes the model to a file, which is left incomplete if that fails."""
        with open(path, "wb") as file:
            self.write(file)

    def to_bytes(self) -> bytes:
        """Returns the flatbuffer, for models that fit into memory."""
        file = io.BytesIO()
        self.write(file)
        return file.getvalue()


def _point(header: bytearray, places: Mapping[int, tuple[int, int]]) -> None:
    """Lets the tables of the buffers, in the header, point at their data."""
    model = schema.Model.GetRootAs(header, 0)
    for number, (start, _) in places.items():
        table = model.Buffers(number)._tab
        field = table.Pos + table.Offset(_DATA_FIELD)
        struct.pack_into("<I", header, field, start - 4 - field)
