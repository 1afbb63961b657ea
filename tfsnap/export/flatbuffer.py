"""Writes a TFLite flatbuffer tensor by tensor, so that it is never in memory as a whole."""

import io
import math
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
      model: the schema's object, its buffers empty.
      data: what the buffers will hold, by number.

    Raises:
      ValueError: it would be larger than a flatbuffer can be.
    """

    def __init__(self, name: str, model: schema.ModelT, data: Mapping[int, LazyTensor]):
        for number in data:
            model.buffers[number].data = np.zeros(1, np.uint8)  # Replaced by what follows.
        builder = flatbuffers.Builder(1 << 20)
        builder.Finish(model.Pack(builder), FILE_IDENTIFIER)
        self._header = bytearray(builder.Output())
        self._data = dict(data)
        self._places = self._place()
        self.bytes = max([len(self._header), *(end for _, end in self._places.values())])
        if self.bytes > LIMIT:
            raise ValueError(
                f"{name} takes {self.bytes / 1e9:.2f} GB and a TFLite file ends at 2.15 GB: store "
                "its weights as int8, or use a smaller network"
            )
        self._point()

    def _place(self) -> dict[int, tuple[int, int]]:
        """Where the data of each buffer begins and ends in the file, behind the header."""
        places, end = {}, len(self._header)
        for number, value in self._data.items():
            # Four bytes of length, then the data.
            start = -(-(end + 4) // _ALIGNMENT) * _ALIGNMENT
            end = start + value.dtype.itemsize * math.prod(value.shape)
            places[number] = (start, end)
        return places

    def _point(self) -> None:
        """Lets the tables of the buffers, in the header, point at their data."""
        model = schema.Model.GetRootAs(self._header, 0)
        for number, (start, _) in self._places.items():
            table = model.Buffers(number)._tab
            field = table.Pos + table.Offset(_DATA_FIELD)
            struct.pack_into("<I", self._header, field, start - 4 - field)

    def write(self, file: BinaryIO) -> None:
        """Writes the model to a file that is open, at its beginning.

        Raises:
          OSError: there is no space left.
        """
        file.write(self._header)
        for number, (start, end) in self._places.items():
            file.write(b"\0" * (start - 4 - file.tell()))
            file.write(struct.pack("<I", end - start))
            value = self._data[number]
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
