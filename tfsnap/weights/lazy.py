"""Tensors that stay on disk until they are written: conversion never holds a whole checkpoint."""

import dataclasses
import json
import math
import os
import pathlib
import tempfile
from collections.abc import Callable, Mapping
from typing import Any, Self

import numpy as np

from tfsnap.weights.tensors import WeightFileError, WeightMismatchError

_TYPES = {
    "F64": np.dtype("<f8"),
    "F32": np.dtype("<f4"),
    "F16": np.dtype("<f2"),
    "BF16": np.dtype("<u2"),
    "I64": np.dtype("<i8"),
    "I32": np.dtype("<i4"),
    "I16": np.dtype("<i2"),
    "I8": np.dtype("i1"),
    "U8": np.dtype("u1"),
    "BOOL": np.dtype("?"),
}
_UNREAD = {"F4": 4, "F6_E2M3": 6, "F6_E3M2": 6}  # Types that numpy has not, and their bits.
_UNREAD |= dict.fromkeys(("F8_E4M3", "F8_E4M3FNUZ", "F8_E5M2", "F8_E5M2FNUZ", "F8_E8M0"), 8)
_NAMES = {np.dtype("float32"): "F32", np.dtype("float16"): "F16"}
READABLE = "use a file in float16, bfloat16 or float32"
_LONGEST_HEADER = 100_000_000  # As in the format's own library: a larger one is damage.


@dataclasses.dataclass(frozen=True)
class LazyTensor:
    """A tensor that is read when it is needed and forgotten after.

    Attributes:
      shape: its shape.
      dtype: the type that `read` returns.
      read: returns the array; every call reads anew.
      unread: the type in the file where that is none that can be read; "" where it can. `read` then
        raises a WeightFileError, so that it does not matter where the tensor is not wanted.
    """

    shape: tuple[int, ...]
    dtype: np.dtype
    read: Callable[[], np.ndarray]
    unread: str = ""

    @property
    def bytes(self) -> int:
        """What it takes in memory once it is read."""
        return self.dtype.itemsize * math.prod(self.shape)

    def map(self, shape: tuple[int, ...], change: Callable[[np.ndarray], np.ndarray]) -> Self:
        """Returns a tensor of the given shape, `change` of this one."""
        return LazyTensor(tuple(shape), self.dtype, lambda: change(self.read()))

    def cast(self, dtype: str | None, name: str, instead: str = "float32") -> Self:
        """Returns the tensor as "float32" or "float16"; None keeps either and narrows float64.

        Where its numbers are too large, reading it says what to use instead.
        """
        target = np.dtype(dtype) if dtype else self.dtype
        if target == np.float64:
            target = np.dtype(np.float32)
        if target == self.dtype:
            return self
        return LazyTensor(self.shape, target, lambda: narrowed(self.read(), target, name, instead))


def narrowed(array: np.ndarray, dtype: np.dtype, name: str, instead: str) -> np.ndarray:
    """Returns an array in another type.

    Args:
      array: numbers; NaN and infinities stay what they are.
      dtype: the type.
      name: of the tensor, for the message.
      instead: what to use where the type cannot hold its numbers.

    Raises:
      WeightMismatchError: it cannot.
    """
    with np.errstate(over="ignore"):
        result = array.astype(dtype)
    if not np.isfinite(result).all():
        lost = array[np.isfinite(array) & ~np.isfinite(result)]
        if lost.size:
            raise WeightMismatchError(
                f"{name} reaches {np.abs(lost).max():.4g}, more than {dtype} can hold; use "
                f"{instead}"
            )
    return result


def widen_bfloat16(bits: np.ndarray) -> np.ndarray:
    """Returns float32 of bfloat16's bits, uint16: the upper half of the same number."""
    return (bits.astype(np.uint32) << 16).view(np.float32)


def file_tensor(
    path: pathlib.Path, offset: int, dtype: np.dtype, shape: tuple[int, ...], *, bfloat16: bool
) -> LazyTensor:
    """A tensor that lies in a file, in C order; bfloat16 becomes float32."""
    count = math.prod(shape)

    def read() -> np.ndarray:
        array = np.fromfile(path, dtype, count, offset=offset)
        if array.size != count:
            raise WeightFileError(f"{path} became shorter while it was read; fetch it again")
        return (widen_bfloat16(array) if bfloat16 else array).reshape(shape)

    return LazyTensor(shape, np.dtype(np.float32) if bfloat16 else dtype, read)


def open_safetensors(
    path: str | os.PathLike,
) -> tuple[dict[str, LazyTensor], dict[str, str]]:
    """Reads the header of a safetensors file.

    Returns:
      Tensors by name, none of them read yet, and the metadata.

    Raises:
      WeightFileError: the file is missing, truncated or not safetensors.
    """
    path = pathlib.Path(path)
    header, start = _header(path)
    metadata = header.pop("__metadata__", None) or {}
    if not isinstance(metadata, dict):
        raise WeightFileError(f"{path}: not a safetensors file: its __metadata__ is no JSON object")
    size = path.stat().st_size - start
    tensors, end = {}, 0
    for name, entry in header.items():
        tensors[name], last = _listed_tensor(path, start, name, entry)
        end = max(end, last)
    if end != size:
        raise WeightFileError(
            f"{path} is truncated or damaged: its header lists {end} bytes of tensors and "
            f"{size} follow; fetch it again"
        )
    return tensors, metadata


def _listed_tensor(path: pathlib.Path, start: int, name: str, entry: Any) -> tuple[LazyTensor, int]:
    """A tensor by its entry in the header, and where it ends."""
    try:
        kind, shape = entry["dtype"], tuple(entry["shape"])
        bits = _UNREAD[kind] if kind in _UNREAD else 8 * _TYPES[kind].itemsize
        first, last = entry["data_offsets"]
        fits = 8 * (last - first) == bits * math.prod(shape) and first >= 0
    except (KeyError, TypeError, ValueError) as error:
        raise WeightFileError(f"{path}: {name} is described as {entry}: {error!r}") from error
    if not fits or any(side < 0 for side in shape):
        raise WeightFileError(f"{path}: {name} of shape {list(shape)} has {last - first} bytes")
    if kind in _UNREAD:
        return _unread_tensor(path, name, shape, kind), last
    bfloat16 = kind == "BF16"
    return file_tensor(path, start + first, _TYPES[kind], shape, bfloat16=bfloat16), last


def _unread_tensor(path: pathlib.Path, name: str, shape: tuple[int, ...], kind: str) -> LazyTensor:
    def read() -> np.ndarray:
        raise WeightFileError(f"{path}: {name} is stored as {kind}: {READABLE}")

    return LazyTensor(shape, np.dtype("V1"), read, kind)


def _header(path: pathlib.Path) -> tuple[dict, int]:
    """Returns the JSON header and where the tensors start."""
    if not path.is_file():
        raise WeightFileError(f"{path}: no such weight file")
    size = path.stat().st_size
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        if size < 8 or length > min(size - 8, _LONGEST_HEADER):
            raise WeightFileError(
                f"{path}: not a complete safetensors file ({size} bytes); fetch it again"
            )
        try:
            header = json.loads(file.read(length))
        except ValueError as error:
            raise WeightFileError(f"{path}: not a safetensors file ({error})") from error
    if not isinstance(header, dict):
        raise WeightFileError(f"{path}: not a safetensors file: its header is no JSON object")
    return header, 8 + length


def write_safetensors(
    path: str | os.PathLike, tensors: Mapping[str, LazyTensor], metadata: Mapping[str, str]
) -> None:
    """Writes tensors one after another; the file appears under its name once it is complete.

    Args:
      path: file to write.
      tensors: float32 or float16 tensors by name; each is read once, when its turn comes.
      metadata: strings for the header.

    Raises:
      OSError: the disk is full or cannot be written.
    """
    path = pathlib.Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(_encoded_header(tensors, metadata))
            for name, tensor in tensors.items():
                array = tensor.read()
                if array.shape != tensor.shape or array.dtype != tensor.dtype:
                    raise ValueError(
                        f"{name} is {array.dtype} {array.shape}, announced as {tensor.dtype} "
                        f"{tensor.shape}"
                    )
                # `tofile` would not tell why it fails.
                file.write(np.ascontiguousarray(array).data)
        os.chmod(temporary, 0o644)
        os.replace(temporary, path)
    except OSError as error:
        os.unlink(temporary)
        raise OSError(error.errno, error.strerror, str(path)) from error
    except BaseException:
        os.unlink(temporary)
        raise


def _encoded_header(tensors: Mapping[str, LazyTensor], metadata: Mapping[str, str]) -> bytes:
    header, offset = {"__metadata__": dict(metadata)}, 0
    for name, tensor in tensors.items():
        header[name] = {
            "dtype": _NAMES[tensor.dtype],
            "shape": list(tensor.shape),
            "data_offsets": [offset, offset + tensor.bytes],
        }
        offset += tensor.bytes
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)  # So that the tensors start aligned.
    return len(text).to_bytes(8, "little") + text
