"""Networks whose weights, as XNNPACK arranges them, are in a file that is mapped into memory.

XNNPACK arranges the weights of a network for its kernels when it is loaded: a second copy, which a
process holds beside the file. `ai-edge-litert` can keep that copy in a file. The first load writes
it, later ones map it: less memory, which the system may take back, and nothing to arrange.
"""

import math
import pathlib
from typing import Any

import numpy as np

from tfsnap.runtime import weight_files
from tfsnap.runtime.errors import BundleError, InterpreterError, RequestError, one_line
from tfsnap.runtime.interpreter import SIGNATURE, Backend, find_backend, require_threads
from tfsnap.runtime.manifest import TensorSpec

_PACKAGE = "ai_edge_litert"
# Arranged weights are single-precision where those of the file are of half, and as large where they
# are of 8 bits. Narrow layers are padded.
_MOST_GROWTH, _PADDING = 2, 2**24


class CachedNetwork:
    """A TFLite network with its arranged weights in a file, behind the interface of a `Network`.

    Args:
      path: of the file.
      cache: of the file of arranged weights, whose own checksum is added to the name. It belongs to
        this network and this version of the package alone, and XNNPACK does not notice if it does
        not: name it after their checksum.
      name: how to call the network in messages.
      threads: number of threads that it may use.
      backend: see `tfsnap.runtime.interpreter.find_backend`.
      signature: what the signature is called.

    Attributes:
      backend: the interpreter package.
      inputs: the inputs of the signature.
      outputs: its outputs.

    Raises:
      RequestError: `threads` is out of range, or the folder of `cache` cannot be written or has no
        room.
      InterpreterError: the interpreter is not ai-edge-litert.
      BundleError: the interpreter refuses the file.
    """

    def __init__(
        self,
        path: pathlib.Path,
        cache: pathlib.Path,
        *,
        name: str,
        threads: int = 2,
        backend: str | None = None,
        signature: str = SIGNATURE,
    ):
        require_threads(threads)
        self.backend: Backend = find_backend(backend)
        if self.backend.name != _PACKAGE:
            raise InterpreterError(
                f"{self.backend.name} cannot keep arranged weights in a file: "
                "pip install ai-edge-litert"
            )
        try:
            self._model = _cached(path, cache, threads)
            place = self._model.get_signature_index(signature)
            self._tensors(place, signature)
        except RequestError:
            raise
        except (ValueError, RuntimeError) as error:
            raise BundleError(f"{name}: {_PACKAGE} refuses it: {one_line(error)}") from error
        except OSError as error:
            raise RequestError(
                f"The weight cache {cache.parent} cannot be written: {error.strerror}: name a "
                "folder that can"
            ) from error

    def _tensors(self, place: int, signature: str) -> None:
        model, names = self._model, self._model.get_signature_by_index(place)
        self._place = place
        self.inputs = _specs(names["inputs"], model.get_input_tensor_details(signature))
        self.outputs = _specs(names["outputs"], model.get_output_tensor_details(signature))
        self._input_buffers = model.create_input_buffers(place)
        self._output_buffers = model.create_output_buffers(place)

    def __call__(self, **arrays: np.ndarray) -> dict[str, np.ndarray]:
        """As `Network.__call__`."""
        self.set(**arrays)
        self.invoke()
        return {
            tensor.name: buffer.read(math.prod(tensor.shape), np.dtype(tensor.dtype)).reshape(
                tensor.shape
            )
            for tensor, buffer in zip(self.outputs, self._output_buffers, strict=True)
        }

    def set(self, **arrays: np.ndarray) -> None:
        """Copies inputs, for `invoke`."""
        for tensor, buffer in zip(self.inputs, self._input_buffers, strict=True):
            if tensor.name in arrays:
                buffer.write(np.ascontiguousarray(arrays[tensor.name], tensor.dtype))

    def invoke(self) -> None:
        """Evaluates the network on the inputs that were set, without copying anything."""
        self._model.run_by_index(self._place, self._input_buffers, self._output_buffers)

    def delegate(self) -> str:
        """As `Network.delegate`."""
        return "XNNPACK"


def _cached(path: pathlib.Path, cache: pathlib.Path, threads: int) -> Any:
    """Compiles with the file of arranged weights, which appears whole or not at all.

    XNNPACK writes it in place, fails on one that another process has half written, and ends the
    process where the disk is full.
    """
    found = weight_files.find(cache)
    if found is not None:
        return _compile(path, found, threads)
    room = _MOST_GROWTH * path.stat().st_size + _PADDING
    with weight_files.writing(cache, room=room) as partial:  # It stays mapped.
        return _compile(path, partial, threads)


def _compile(path: pathlib.Path, cache: pathlib.Path, threads: int) -> Any:
    from ai_edge_litert.compiled_model import CompiledModel
    from ai_edge_litert.hardware_accelerator import HardwareAccelerator
    from ai_edge_litert.options import CpuOptions, Options

    cpu = CpuOptions(num_threads=threads, xnnpack_weight_cache_path=str(cache))
    options = Options(hardware_accelerators=HardwareAccelerator.CPU, cpu_options=cpu)
    return CompiledModel.from_file(str(path), options=options)


def _specs(names: list[str], details: dict[str, dict]) -> tuple[TensorSpec, ...]:
    return tuple(
        TensorSpec(name, np.dtype(details[name]["dtype"]).name, tuple(details[name]["shape"]))
        for name in names
    )
