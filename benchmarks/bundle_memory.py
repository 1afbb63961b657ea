#!/usr/bin/env python3
"""Memory of a process that runs a network: from a folder, one file, chunks, or of two sizes.

    benchmarks/bundle_memory.py --layers=42 --folder=/tmp/bundle_memory

The network is `layers` convolutions of 512 channels with random fp16 weights, 4.7 MB each. Every
row is a process of its own. Linux only: the figures are those of /proc/self/status.
"""

import json
import os
import pathlib
import shutil
import subprocess
import sys

import numpy as np
import tensorflow as tf
from absl import flags

# Programs are run from anywhere: the repository's root holds `tools`.
sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))

from tfsnap.export.component_files import component_files
from tfsnap.export.converter import convert
from tfsnap.export.graphs import Graph
from tfsnap.runtime.archive import write_archive
from tfsnap.weights.store import in_memory
from tools.program import run_main

_LAYERS = flags.DEFINE_integer("layers", 42, "Convolutions.", 4)
_FOLDER = flags.DEFINE_string("folder", None, "Where the files are written; emptied first.")
_INTERPRETERS = ("ai_edge_litert", "tflite_runtime")
# Name of a row: files, whether from the archive, whether one chunk at a time, and the signature.
_CHUNKS = [f"chunk.{i}.tflite" for i in range(4)]
_ROWS = {
    "folder": (["net.tflite"], False, False, None),
    "one file": (["net.tflite"], True, False, None),
    "the file's content as bytes": (["net.tflite"], None, False, None),
    "4 chunks, all loaded": (_CHUNKS, False, False, None),
    "4 chunks, one at a time": (_CHUNKS, False, True, None),
    "two sizes, one chosen": (["sizes.tflite"], False, False, "serving_default"),
    "two sizes, none hidden": (["sizes.tflite"], False, False, None),
}
_MEASURE = """
import functools, json, pathlib, re, sys, time
import numpy as np
from tfsnap.runtime.components import load_files
from tfsnap.runtime.interpreter import load
from tfsnap.runtime.lending import lend
from tfsnap.runtime.storage import Archive, Folder

root = pathlib.Path(sys.argv[1])
files, archive, low_memory, signature = json.loads(sys.argv[2])
if archive is None:
    network = load((root / "files" / files[0]).read_bytes(), name="network")
else:
    storage = Archive(root / "all.tfsnap") if archive else Folder(root / "files")
    lend = functools.partial(lend, storage, signature=signature)
    network = load_files(lend, files, name="network", outputs=["y"], low_memory=low_memory)
x, times = np.ones(network.inputs[0].shape, np.float32), []
for _ in range(4):
    start = time.perf_counter()
    network(x=x)
    times.append(time.perf_counter() - start)
status = pathlib.Path("/proc/self/status").read_text()
memory = {
    key: int(re.search(key + r":\\s+(\\d+)", status)[1]) * 1024 / 1e6
    for key in ("VmHWM", "RssAnon", "RssFile")
}
print(json.dumps([memory, sorted(times[1:])[1]]))
"""


def write_files(root: pathlib.Path) -> None:
    """Writes the network whole, in chunks and for two sizes, and an archive of all."""
    rng = np.random.default_rng(0)
    kernels = [
        tf.Variable(0.02 * rng.standard_normal([3, 3, 512, 512]).astype(np.float32), name=f"k{i}")
        for i in range(_LAYERS.value)
    ]

    @tf.function
    def function(x: tf.Tensor) -> dict[str, tf.Tensor]:
        for kernel in kernels:
            x = tf.nn.relu(tf.nn.conv2d(x, kernel, 1, "SAME"))
        return {"y": x}

    sides = {"serving_default": 4, "8x8": 8}
    specs = {key: tf.TensorSpec([1, side, side, 512], name="x") for key, side in sides.items()}
    values = in_memory(kernels)
    conversions = {
        key: convert(Graph("net", function, {"x": spec}, kernels, values), "fp16")
        for key, spec in specs.items()
    }
    whole = {"serving_default": conversions["serving_default"]}
    models = {
        "net.tflite": whole["serving_default"],
        "sizes.tflite": component_files(conversions)[0],
        **dict(zip(_CHUNKS, component_files(whole, chunks=len(_CHUNKS)), strict=True)),
    }
    for name, model in models.items():
        model.save(root / "files" / name)
    (root / "files/manifest.json").write_text("{}")
    write_archive(root / "files", root / "all.tfsnap")


def main() -> None:
    root = pathlib.Path(_FOLDER.value)
    if root.exists() and {path.name for path in root.iterdir()} - {"files", "all.tfsnap"}:
        raise ValueError(f"--folder={root} holds other files, which would be lost: name a new one")
    shutil.rmtree(root, ignore_errors=True)
    (root / "files").mkdir(parents=True)
    write_files(root)
    for file in sorted((root / "files").glob("*.tflite")):
        print(f"{file.name:16} {file.stat().st_size / 1e6:8.2f} MB")
    for interpreter in _INTERPRETERS:
        for name, row in _ROWS.items():
            memory, seconds = measure(root, interpreter, row)
            shown = " / ".join(f"{memory[key]:.0f}" for key in ("VmHWM", "RssAnon", "RssFile"))
            print(f"{interpreter:15} {name:28} {shown:20} MB  {seconds:.2f} s a run")


def measure(root: pathlib.Path, interpreter: str, row: tuple) -> tuple[dict[str, float], float]:
    """Memory in 10^6 bytes, and the median of three runs, of a process that runs one row."""
    done = subprocess.run(
        [sys.executable, "-c", _MEASURE, str(root), json.dumps(row)],
        env={**os.environ, "TFSNAP_INTERPRETER": interpreter},
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise ChildProcessError(done.stderr.strip().splitlines()[-1])
    return json.loads(done.stdout.splitlines()[-1])


if __name__ == "__main__":
    flags.mark_flag_as_required("folder")
    run_main(main)
