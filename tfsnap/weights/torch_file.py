"""PyTorch's checkpoints (.ckpt, .pt, .bin) without PyTorch and without trusting them.

Such a file is a zip: a pickle that describes objects, and the tensors' bytes beside it. A pickle is
a program that may call anything it can name. Here it can name a dozen things, all defined below,
which build lazy tensors and dictionaries and nothing else; every other name refuses the file.
"""

import math
import os
import pathlib

# The only use of pickle: its parser, with every name that a file asks for answered by `find_class`.
import pickle  # noqa: TID251
import struct
import zipfile
from collections.abc import Callable
from typing import Any, NamedTuple, NoReturn

import numpy as np

from tfsnap.weights.lazy import LazyTensor, file_tensor, widen_bfloat16
from tfsnap.weights.tensors import WeightFileError

_LARGEST_PICKLE = 256 << 20  # Bytes; Stable Diffusion's is 0.2 MB.
_LOCAL_HEADER = struct.Struct("<4s5H3L2H")  # Of a member of a zip.


class _Record(dict):
    """A dictionary that a pickle may also give attributes, as it does a module's state."""


class _StorageType(NamedTuple):
    """Stands for torch.FloatStorage and its like. Like all tuples, no pickle can change it."""

    dtype: np.dtype
    bfloat16: bool = False


class _Storage(NamedTuple):
    """Bytes of one or more tensors: where they begin in the file, and their type."""

    path: pathlib.Path
    offset: int
    dtype: np.dtype
    bfloat16: bool
    count: int


class _Call:
    """Something a pickle may call. Without attributes, so that a pickle cannot change it either."""

    __slots__ = ("_function",)

    def __init__(self, function: Callable[..., Any]):
        object.__setattr__(self, "_function", function)

    def __call__(self, *args: Any) -> Any:
        return self._function(*args)

    def __setattr__(self, name: str, value: Any) -> NoReturn:
        raise WeightFileError(f"the pickle tries to set {name!r} of a function")


def _rebuild_tensor(
    storage: _Storage, offset: int, size: tuple[int, ...], stride: tuple[int, ...], *_: Any
) -> LazyTensor:
    """A view of a storage: element i, j, ... is at offset + i * stride[0] + j * stride[1] + ..."""
    numbers = (offset, *size, *stride)
    if not isinstance(storage, _Storage) or len(size) != len(stride):
        raise WeightFileError("the pickle builds a tensor of something else than a storage")
    if any(not isinstance(n, int) or n < 0 for n in numbers):
        raise WeightFileError(f"the pickle describes a tensor with {numbers}")
    reach = sum((n - 1) * step for n, step in zip(size, stride, strict=True))
    if math.prod(size) and offset + reach >= storage.count:
        raise WeightFileError(
            f"a tensor of shape {list(size)} reaches behind its {storage.count} elements"
        )
    start = storage.offset + offset * storage.dtype.itemsize
    if tuple(stride) == _contiguous(size) or math.prod(size) <= 1:
        return file_tensor(
            storage.path, start, storage.dtype, tuple(size), bfloat16=storage.bfloat16
        )

    def read() -> np.ndarray:
        flat = np.fromfile(storage.path, storage.dtype, reach + 1, offset=start)
        if flat.size != reach + 1:
            raise WeightFileError(f"{storage.path} became shorter while it was read")
        flat = widen_bfloat16(flat) if storage.bfloat16 else flat
        steps = [step * flat.itemsize for step in stride]
        return np.lib.stride_tricks.as_strided(flat, size, steps, writeable=False)

    dtype = np.dtype(np.float32) if storage.bfloat16 else storage.dtype
    return LazyTensor(tuple(size), dtype, read)


def _contiguous(size: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(math.prod(size[i + 1 :]) for i in range(len(size)))


class _Ignored:
    """What a training run left beside the weights: counters, scores, callbacks."""

    __slots__ = ()

    def __init__(self, *_: Any):
        """Takes anything and keeps nothing."""

    def __setstate__(self, state: Any) -> None:
        """Keeps nothing either."""


_NAMES: dict[tuple[str, str], Any] = {
    ("collections", "OrderedDict"): _Call(lambda *_: _Record()),
    ("torch._utils", "_rebuild_tensor_v2"): _Call(_rebuild_tensor),
    ("torch._utils", "_rebuild_parameter"): _Call(lambda data, *_: data),
    ("torch", "DoubleStorage"): _StorageType(np.dtype("<f8")),
    ("torch", "FloatStorage"): _StorageType(np.dtype("<f4")),
    ("torch", "HalfStorage"): _StorageType(np.dtype("<f2")),
    ("torch", "BFloat16Storage"): _StorageType(np.dtype("<u2"), bfloat16=True),
    ("torch", "LongStorage"): _StorageType(np.dtype("<i8")),
    ("torch", "IntStorage"): _StorageType(np.dtype("<i4")),
    ("torch", "ShortStorage"): _StorageType(np.dtype("<i2")),
    ("torch", "CharStorage"): _StorageType(np.dtype("i1")),
    ("torch", "ByteStorage"): _StorageType(np.dtype("u1")),
    ("torch", "BoolStorage"): _StorageType(np.dtype("?")),
    # Stable Diffusion's own checkpoints name these; they are answered by a function that does
    # nothing.
    ("_codecs", "encode"): _Call(_Ignored),
    ("numpy", "dtype"): _Call(_Ignored),
    ("numpy.core.multiarray", "scalar"): _Call(_Ignored),
    ("numpy._core.multiarray", "scalar"): _Call(_Ignored),
    ("pytorch_lightning.callbacks.model_checkpoint", "ModelCheckpoint"): _Call(_Ignored),
    ("pytorch_lightning.utilities.enums", "_FaultTolerantMode"): _Call(_Ignored),
}


class _RestrictedUnpickler(pickle.Unpickler):
    """Reads a checkpoint's pickle; it can name only what `_NAMES` lists."""

    def __init__(self, file: Any, storage: Callable[[str, _StorageType, int], _Storage]):
        super().__init__(file)
        self._storage = storage

    def find_class(self, module: str, name: str) -> Any:
        """Answers a global name."""
        try:
            return _NAMES[module, name]
        except KeyError:
            raise WeightFileError(
                f"its pickle asks for {module}.{name}, which is no part of a checkpoint of "
                "tensors, and would run code; the file is refused"
            ) from None

    def persistent_load(self, pid: Any) -> _Storage:
        """Answers a reference to bytes beside the pickle."""
        match pid:
            case ("storage", _StorageType() as kind, str(key), _, int(count)):
                return self._storage(key, kind, count)
        raise WeightFileError(f"its pickle refers to {pid!r}, which is no storage")


def open_torch_file(path: str | os.PathLike) -> dict[str, LazyTensor]:
    """Opens a checkpoint of PyTorch 1.6 or newer.

    Args:
      path: the file.

    Returns:
      The tensors of its state dict by name, none of them read yet.

    Raises:
      WeightFileError: the file is missing, damaged, older, or its pickle asks for anything but
        tensors; nothing of it was executed.
    """
    path = pathlib.Path(path)
    if not path.is_file():
        raise WeightFileError(f"{path}: no such weight file")
    try:
        with zipfile.ZipFile(path) as archive:
            tensors = _tensors(_unpickled(path, archive))
    except WeightFileError as error:
        raise WeightFileError(f"{path}: {error}") from error
    except zipfile.BadZipFile as error:
        raise WeightFileError(
            f"{path}: truncated, or not a PyTorch checkpoint of version 1.6 or newer ({error}); "
            "fetch it again, or save it with today's torch.save"
        ) from error
    except Exception as error:  # A damaged pickle may fail in any way.
        raise WeightFileError(f"{path}: its pickle is damaged ({error!r})") from error
    if not tensors:
        raise WeightFileError(f"{path} holds no state dict with tensors")
    return tensors


def _tensors(found: Any) -> dict[str, LazyTensor]:
    """The tensors of a state dict, or of the state dict inside what a trainer saved."""
    state = found.get("state_dict", found) if isinstance(found, dict) else {}
    return {str(key): value for key, value in state.items() if isinstance(value, LazyTensor)}


def _unpickled(path: pathlib.Path, archive: zipfile.ZipFile) -> Any:
    pickles = [info for info in archive.infolist() if info.filename.endswith("/data.pkl")]
    if len(pickles) != 1 or pickles[0].file_size > _LARGEST_PICKLE:
        raise WeightFileError("not a PyTorch checkpoint: a zip with one data.pkl is expected")
    root = pickles[0].filename.removesuffix("data.pkl")
    if f"{root}byteorder" in archive.namelist() and archive.read(f"{root}byteorder") != b"little":
        raise WeightFileError("its bytes are in big-endian order; save it on another machine")

    def storage(key: str, kind: _StorageType, count: int) -> _Storage:
        try:
            info = archive.getinfo(f"{root}data/{key}")
        except KeyError:
            raise WeightFileError(f"the bytes of storage {key} are missing") from None
        if info.compress_type != zipfile.ZIP_STORED:
            raise WeightFileError(f"storage {key} is compressed, which torch.save never does")
        if info.file_size != count * kind.dtype.itemsize:
            raise WeightFileError(f"storage {key} has {info.file_size} bytes for {count} elements")
        return _Storage(path, _data_offset(path, info), *kind, count)

    with archive.open(pickles[0]) as file:
        return _RestrictedUnpickler(file, storage).load()


def _data_offset(path: pathlib.Path, info: zipfile.ZipInfo) -> int:
    """Where a stored member's bytes begin: behind its local header and what that announces."""
    with path.open("rb") as file:
        file.seek(info.header_offset)
        header = _LOCAL_HEADER.unpack(file.read(_LOCAL_HEADER.size))
    if header[0] != b"PK\x03\x04":
        raise WeightFileError(f"{info.filename} has no local header")
    return info.header_offset + _LOCAL_HEADER.size + header[-2] + header[-1]
