#!/usr/bin/env python3
"""Where the time of a network goes: milliseconds by kind of operator, inside XNNPACK too.

    benchmarks/operators.py --model=/tmp/pictures/unet-sd15-int8.tflite

The profiler is LiteRT's, which the Python classes of ai-edge-litert do not reach: its C library is
called by ctypes, in version 2.3, as there are no headers in the package. Inputs are random floats.
"""

import collections
import ctypes
import os
import pathlib
import sys
import time

import ai_edge_litert
import numpy as np
from absl import flags

# Programs are run from anywhere: the repository's root holds `tools`.
sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))

from tools.program import run_main

_MODEL = flags.DEFINE_string("model", None, "The TFLite file.", required=True)
_THREADS = flags.DEFINE_integer("threads", 2, "Threads of the interpreter.", 1)
_RUNS = flags.DEFINE_integer("runs", 3, "Measured runs, after one that is not.", 1)

_CPU = 1  # kLiteRtHwAcceleratorCpu.
_WRITE = 1  # kLiteRtTensorBufferLockModeWrite.
_OPERATORS = (2, 8)  # Events of the interpreter's own operators and of those of a delegate.
_KEPT = []  # What the library points at.


class Event(ctypes.Structure):
    """ProfiledEventData."""

    _fields_ = (
        ("tag", ctypes.c_char_p),
        ("type", ctypes.c_int),
        ("start_us", ctypes.c_uint64),
        ("elapsed_us", ctypes.c_uint64),
        ("memory", ctypes.c_size_t * 6),
        ("metadata", ctypes.c_uint64 * 2),
        ("source", ctypes.c_int),
    )


_LIBRARY = ctypes.CDLL(os.path.join(os.path.dirname(ai_edge_litert.__file__), "libLiteRt.so"))
_KEEP = ctypes.CFUNCTYPE(None, ctypes.c_void_p)(lambda pointer: None)


def call(name: str, *arguments: object) -> None:
    """Calls a function of the library; integers are sizes or indices."""
    told = [ctypes.c_size_t(a) if isinstance(a, int) else a for a in arguments]
    status = getattr(_LIBRARY, f"LiteRt{name}")(*told)
    if status:
        raise RuntimeError(f"LiteRt{name} returned {status}")


def made(name: str, *arguments: object) -> ctypes.c_void_p:
    """Calls a function whose last argument is where it puts a handle."""
    handle = ctypes.c_void_p()
    call(name, *arguments, ctypes.byref(handle))
    return handle


def options() -> ctypes.c_void_p:
    """CPU, with a profiler."""
    result = made("CreateOptions")
    call("SetOptionsHardwareAccelerators", result, ctypes.c_int(_CPU))
    settings = {
        b"runtime_options_string": b"enable_profiling = true\n",
        b"xnnpack": f"num_threads = {_THREADS.value}\n".encode(),
    }
    for name, text in settings.items():
        _KEPT.append(ctypes.create_string_buffer(text))
        pointer = ctypes.cast(_KEPT[-1], ctypes.c_void_p)
        opaque = made("CreateOpaqueOptions", ctypes.c_char_p(name), pointer, _KEEP)
        call("AddOpaqueOptions", result, opaque)
    return result


class Model:
    """A compiled model with a profiler and buffers."""

    def __init__(self, path: str):
        self._environment = made("CreateEnvironment", ctypes.c_int(0), None)
        file = ctypes.c_char_p(path.encode())
        model = made("CreateModelFromFile", self._environment, file)
        self._compiled = made("CreateCompiledModel", self._environment, model, options())
        self._profiler = made("CompiledModelGetProfiler", self._compiled)
        self._signature = made("GetModelSignature", model, 0)
        self._inputs, self._outputs = self._buffers("Input"), self._buffers("Output")

    def _buffers(self, side: str) -> ctypes.Array:
        count = ctypes.c_size_t()
        call(f"GetNumSignature{side}s", self._signature, ctypes.byref(count))
        buffers = (ctypes.c_void_p * count.value)()
        for i in range(count.value):
            tensor = made(f"GetSignature{side}TensorByIndex", self._signature, i)
            kind = ctypes.create_string_buffer(512)  # LiteRtRankedTensorType, and room to spare.
            call("GetRankedTensorType", tensor, kind)
            needs = made(f"GetCompiledModel{side}BufferRequirements", self._compiled, 0, i)
            buffers[i] = made(
                "CreateManagedTensorBufferFromRequirements", self._environment, kind, needs
            )
            if side == "Input":
                _fill(ctypes.c_void_p(buffers[i]))
        return buffers

    def run(self) -> float:
        """Evaluates it and returns the milliseconds."""
        start = time.perf_counter()
        sides = (len(self._inputs), self._inputs, len(self._outputs), self._outputs)
        call("RunCompiledModel", self._compiled, 0, *sides)
        return 1000 * (time.perf_counter() - start)

    def profile(self, runs: int) -> tuple[float, dict[str, list[float]]]:
        """Mean milliseconds of a run, and of every operator in it by kind."""
        call("StartProfiler", self._profiler)
        total = sum(self.run() for _ in range(runs)) / runs
        call("StopProfiler", self._profiler)
        count = ctypes.c_int()
        call("GetNumProfilerEvents", self._profiler, ctypes.byref(count))
        events = (Event * count.value)()
        call("GetProfilerEvents", self._profiler, count, events)
        found = collections.defaultdict(list)
        for event in events:
            if event.type in _OPERATORS:
                found[event.tag.decode()].append(event.elapsed_us / 1000)
        return total, found


def _fill(buffer: ctypes.c_void_p) -> None:
    size, place = ctypes.c_size_t(), ctypes.c_void_p()
    call("GetTensorBufferSize", buffer, ctypes.byref(size))
    values = np.random.default_rng(0).standard_normal(size.value // 4, dtype=np.float32)
    call("LockTensorBuffer", buffer, ctypes.byref(place), ctypes.c_int(_WRITE))
    ctypes.memmove(place, values.ctypes.data, values.nbytes)
    call("UnlockTensorBuffer", buffer)


def main() -> None:
    model, runs = Model(_MODEL.value), _RUNS.value
    model.run()
    total, found = model.profile(runs)
    print("| operator | count | ms | % |\n|---|---|---|---|")
    for name, times in sorted(found.items(), key=lambda item: -sum(item[1])):
        ms = sum(times) / runs
        print(f"| {name} | {len(times) // runs} | {ms:.1f} | {100 * ms / total:.1f} |")
    print(f"| all | | {total:.1f} | |")


if __name__ == "__main__":
    run_main(main)
