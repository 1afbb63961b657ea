"""The TFLite interpreter: whichever of two packages is installed, never TensorFlow.

`tflite-runtime` and its successor `ai-edge-litert` hold the same class. Both in one process, or
tflite-runtime beside TensorFlow, can break each other while loading a model, so a process stays
with the first it loads.
"""

import importlib
import importlib.metadata
import importlib.util
import os
import pathlib
import sys
from typing import Any, NamedTuple

import numpy as np

from tfsnap.runtime.errors import BundleError, InterpreterError, RequestError, one_line
from tfsnap.runtime.manifest import TensorSpec

BACKENDS = ("ai_edge_litert", "tflite_runtime")  # In the order in which they are tried.
VARIABLE = "TFSNAP_INTERPRETER"
SIGNATURE = "serving_default"
_MOST_THREADS = 1024  # More than cores; what no C integer holds fails in the packages with a page.


class Backend(NamedTuple):
    """An interpreter package.

    Attributes:
      name: "ai_edge_litert" or "tflite_runtime".
      version: of the package.
      interpreter: its class `Interpreter`.
    """

    name: str
    version: str
    interpreter: Any


def find_backend(name: str | None = None) -> Backend:
    """Imports an interpreter package.

    Args:
      name: one of `BACKENDS`; by default the one in the environment variable TFSNAP_INTERPRETER,
        then one that this process has already loaded, then the first that is installed.

    Raises:
      InterpreterError: none is installed, or the one asked for is not, or it cannot be used here.
    """
    name = name or os.environ.get(VARIABLE) or _default()
    if name not in BACKENDS:
        raise InterpreterError(f"The interpreter is {name!r}; it must be {' or '.join(BACKENDS)}")
    package = name.replace("_", "-")
    if not _installed(name):
        raise InterpreterError(f"{name} is not installed: pip install {package}")
    rivals = {"tflite_runtime": ("ai_edge_litert", "tensorflow"), "ai_edge_litert": BACKENDS[1:]}
    loaded = [rival for rival in rivals[name] if _loaded(rival)]
    if loaded:
        raise InterpreterError(
            f"{name} cannot be used in a process that has loaded {loaded[0]}: start a new process"
        )
    version = _version(package)
    if name == "tflite_runtime" and int(np.__version__.split(".")[0]) >= 2:
        # It can be imported, prints a page of warnings, and fails when the first network is loaded.
        raise InterpreterError(
            f"{package} {version} needs numpy<2 and this is numpy {np.__version__}: "
            "pip install 'numpy<2', or pip install ai-edge-litert"
        )
    try:
        module = importlib.import_module(f"{name}.interpreter")
    except ImportError as error:
        reason = " ".join(str(error).split())
        raise InterpreterError(
            f"{package} {version} cannot be imported ({reason}): install it again"
        ) from error
    return Backend(name, version, module.Interpreter)


def _default() -> str:
    if _loaded("tensorflow") and _installed("ai_edge_litert"):
        return "ai_edge_litert"
    for name in BACKENDS:
        if _loaded(name):
            return name
    for name in BACKENDS:
        if _installed(name):
            return name
    raise InterpreterError(
        "No TFLite interpreter is installed: pip install ai-edge-litert "
        "or pip install tflite-runtime (Linux, Python up to 3.11)"
    )


def _version(package: str) -> str:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:  # A nightly build, under another name.
        return "of unknown version"


def _loaded(name: str) -> bool:
    return sys.modules.get(name) is not None


def _installed(name: str) -> bool:
    return importlib.util.find_spec(name) is not None


class Network:
    """A TFLite network that is called with named arrays.

    Tensors are addressed by index, looked up once: the interpreter's own signature runner resizes
    and allocates again on every call.

    Attributes:
      backend: the interpreter package.
      inputs: the inputs of the signature.
      outputs: its outputs.
    """

    def __init__(self, interpreter: Any, backend: Backend, signature: str):
        self.backend = backend
        self._interpreter = interpreter
        # The runner must not outlive this function: the interpreter refuses to run while somebody
        # else holds its internals.
        runner = interpreter.get_signature_runner(signature)
        inputs, outputs = runner.get_input_details(), runner.get_output_details()
        self._input_indices = {name: tensor["index"] for name, tensor in inputs.items()}
        self._output_indices = {name: tensor["index"] for name, tensor in outputs.items()}
        self.inputs = _specs(inputs)
        self.outputs = _specs(outputs)

    def __call__(self, **arrays: np.ndarray) -> dict[str, np.ndarray]:
        """Evaluates the network.

        Args:
          **arrays: every input by name, of the type and shape that `inputs` tells.

        Returns:
          Every output by name; the arrays are copies.
        """
        self.set(**arrays)
        self.invoke()
        return {
            name: self._interpreter.get_tensor(index)
            for name, index in self._output_indices.items()
        }

    def set(self, **arrays: np.ndarray) -> None:
        """Copies inputs, for `invoke`."""
        for name, array in arrays.items():
            self._interpreter.set_tensor(self._input_indices[name], array)

    def invoke(self) -> None:
        """Evaluates the network on the inputs that were set, without copying anything."""
        self._interpreter.invoke()

    def delegate(self) -> str:
        """Returns what runs the network, "XNNPACK" or "none" (the interpreter's own kernels).

        XNNPACK is the only delegate that the packages apply by themselves.
        """
        operators = {node["op_name"] for node in self._interpreter._get_ops_details()}
        return "XNNPACK" if "DELEGATE" in operators else "none"


def _specs(details: dict[str, dict]) -> tuple[TensorSpec, ...]:
    return tuple(
        TensorSpec(name, np.dtype(tensor["dtype"]).name, tuple(map(int, tensor["shape"])))
        for name, tensor in details.items()
    )


def load(
    model: pathlib.Path | bytes,
    *,
    name: str,
    threads: int = 2,
    backend: str | None = None,
    signature: str = SIGNATURE,
) -> Network:
    """Loads a TFLite network of one signature.

    Args:
      model: path or content of the file.
      name: how to call it in messages.
      threads: number of threads that it may use.
      backend: see `find_backend`.
      signature: what the signature is called.

    Raises:
      RequestError: `threads` is out of range.
      InterpreterError: there is no usable interpreter.
      BundleError: the interpreter refuses the file.
    """
    require_threads(threads)
    found = find_backend(backend)
    source = {"model_content": model} if isinstance(model, bytes) else {"model_path": str(model)}
    try:
        interpreter = found.interpreter(**source, num_threads=threads)
        interpreter.allocate_tensors()
        return Network(interpreter, found, signature)
    except (ValueError, RuntimeError) as error:
        raise BundleError(
            f"{name}: {found.name} {found.version} refuses it: {one_line(error)}"
        ) from error


def require_threads(threads: int) -> None:
    """Raises a RequestError if a network cannot have that many threads."""
    if not isinstance(threads, int) or threads < 1:
        raise RequestError(f"threads is {threads!r}; it must be an integer of at least 1")
    if threads > _MOST_THREADS:
        raise RequestError(f"threads is {threads}; it must be at most {_MOST_THREADS}")
