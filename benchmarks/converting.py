#!/usr/bin/env python3
"""Converts networks of Stable Diffusion's size: time, peak memory, and what is left of the outputs.

    benchmarks/converting.py --folder=/tmp/converting
    benchmarks/converting.py --folder=/tmp/converting --network=unet:snapfusion --precision=int8

Every conversion runs in a process of its own, from a float32 weight file of random numbers to the
TFLite file; so does Keras, and so does the interpreter that is compared with it. The folder takes
about 10 GB. Prints a Markdown table.
"""

import json
import pathlib
import subprocess
import sys
import time
from collections.abc import Mapping

# Programs are run from anywhere: the repository's root holds `tfsnap` where it is not installed.
sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))

import numpy as np
from absl import flags, logging

from benchmarks.random_inputs import random_inputs
from tfsnap.export.converter import PRECISIONS, convert, folded
from tfsnap.export.full_size import NETWORKS
from tfsnap.export.graphs import Graph
from tfsnap.export.parity import psnr_db
from tfsnap.export.quantisation.calibration import (
    NetworkCalibration,
    fingerprint,
    load_calibration,
    save_calibration,
)
from tfsnap.export.quantisation.formats import FORMATS
from tfsnap.export.quantisation.observer import observe
from tfsnap.export.quantisation.ranges import ranges_of
from tfsnap.export.quantisation.trials import QuantisedNetwork
from tfsnap.models.weightless import build_weightless
from tfsnap.runtime.interpreter import load
from tfsnap.runtime.sizes import parse_size
from tfsnap.weights.archive import describe, load_trained, open_trained
from tfsnap.weights.lazy import write_safetensors
from tfsnap.weights.random_values import random_values
from tools.program import run_main

CALIBRATION_CALLS = 4  # Evaluations that ranges are recorded on.


_FOLDER = flags.DEFINE_string("folder", None, "Where weights and conversions go.", required=True)
_NETWORKS = flags.DEFINE_multi_enum("network", list(NETWORKS), list(NETWORKS), "Repeatable.")
_PRECISIONS = flags.DEFINE_multi_enum(
    "precision", ["fp16", "int8"], [*PRECISIONS, *FORMATS], "Repeatable."
)
_LATENT = flags.DEFINE_string(
    "latent", "64", "Height x width of the latents, an eighth of a picture's: 64, or 64x96."
)
_STAGES = ("weights", "convert", "keras", "calibrate", "compare")
_STAGE = flags.DEFINE_enum("stage", None, _STAGES, "Internal: what a process does.")


def weights_of(name: str) -> pathlib.Path:
    """The weight file of a network; encoder and decoder of one autoencoder share it."""
    kind, preset = NETWORKS[name].kind, name.partition(":")[2]
    return pathlib.Path(_FOLDER.value, f"{kind}-{preset or 'sd15'}.safetensors")


def beside(name: str, ending: str) -> pathlib.Path:
    """A file about a network at a size."""
    size = "" if _LATENT.value == _LATENT.default else f"@{_LATENT.value}"
    return pathlib.Path(_FOLDER.value, name.replace(":", "-") + size + ending)


def make_weights(name: str) -> dict[str, float]:
    """Writes random weights of the sizes that training starts with."""
    model = build_weightless(NETWORKS[name].build)
    about = {key: json.dumps(value) for key, value in describe(model).items()}
    write_safetensors(weights_of(name), random_values(model.variables), about)
    return {}


def inputs_of(graph: Graph, seed: int = 0) -> dict[str, np.ndarray]:
    """Random inputs of a graph."""
    described = {name: (spec.shape, spec.dtype.name) for name, spec in graph.inputs.items()}
    return random_inputs(described, seed)


def run_keras(name: str) -> dict[str, float]:
    """Keeps what the Keras network makes of the inputs."""
    model = load_trained(weights_of(name), NETWORKS[name].kind).model
    graph = NETWORKS[name].graph(model, None, parse_size(_LATENT.value))
    inputs = inputs_of(graph)
    np.savez(beside(name, "-inputs.npz"), **inputs)
    np.savez(beside(name, "-outputs.npz"), **graph.run(**inputs))
    return {}


def run_calibration(name: str) -> dict[str, float]:
    """Records activations on random inputs, others than those of the comparison."""
    clock, graph = Clock(), graph_of(name)
    calls = [(inputs_of(graph, seed), {}) for seed in range(1, 1 + CALIBRATION_CALLS)]
    observed = observe(folded(graph), calls, beside(name, "-observed.tflite"))
    path = beside(name, "-calibration.safetensors")
    save_calibration(path, {name: NetworkCalibration(fingerprint(graph), observed, [])})
    return {**clock.read(), "megabytes": path.stat().st_size / 1e6}


def run_conversion(name: str, precision: str) -> dict[str, float]:
    """Converts, and says how long it took."""
    clock, graph = Clock(), graph_of(name)
    if precision in FORMATS:
        form = FORMATS[precision]
        observed = load_calibration(beside(name, "-calibration.safetensors"))[name].observed
        ranges = ranges_of(observed, "mse", steps=form.steps)
        model = QuantisedNetwork(name, folded(graph), form, ranges).model()
    else:
        model = convert(graph, precision)
    model.save(beside(name, f"-{precision}.tflite"))
    return {**clock.read(), "megabytes": model.bytes / 1e6}


class Clock:
    """Seconds since it was made."""

    def __init__(self):
        self._wall, self._cpu = time.perf_counter(), time.process_time()

    def read(self) -> dict[str, float]:
        """Seconds on the wall's clock and of the processors."""
        return {
            "seconds": time.perf_counter() - self._wall,
            "cpu_seconds": time.process_time() - self._cpu,
        }


def graph_of(name: str) -> Graph:
    """The graph of a network whose weights stay on disk."""
    opened = open_trained(weights_of(name), NETWORKS[name].kind)
    return NETWORKS[name].graph(opened.model, opened.values, parse_size(_LATENT.value))


def run_comparison(name: str, precision: str) -> dict[str, float]:
    """Evaluates the conversion once and compares with Keras."""
    inputs, wanted = (np.load(beside(name, f"-{side}.npz")) for side in ("inputs", "outputs"))
    found = load(beside(name, f"-{precision}.tflite"), name=name)(**inputs)
    return {"psnr_db": min(psnr_db(wanted[key], found[key]) for key in wanted)}


def apart(stage: str, name: str, precision: str = "fp16") -> dict[str, float]:
    """Runs one stage in a process of its own and returns what it says."""
    told = [f"--folder={_FOLDER.value}", f"--network={name}", f"--precision={precision}"]
    command = [sys.executable, __file__, f"--stage={stage}", *told, f"--latent={_LATENT.value}"]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise ChildProcessError(f"{stage} of {name} failed: {done.stderr[-2000:]}")
    return json.loads(done.stdout.splitlines()[-1])


def run_stage() -> None:
    """What a process of `apart` does: its last line is JSON, with its peak memory."""
    (name,), (precision,) = _NETWORKS.value, _PRECISIONS.value
    stages = {
        "weights": lambda: make_weights(name),
        "keras": lambda: run_keras(name),
        "calibrate": lambda: run_calibration(name),
        "convert": lambda: run_conversion(name, precision),
        "compare": lambda: run_comparison(name, precision),
    }
    result = stages[_STAGE.value]()
    status = pathlib.Path("/proc/self/status").read_text()
    peak = next(line for line in status.splitlines() if line.startswith("VmHWM"))
    print(json.dumps({**result, "peak_gb": int(peak.split()[1]) * 1024 / 1e9}))


def main() -> None:
    logging.set_verbosity(logging.ERROR)
    if _STAGE.value:
        run_stage()
        return
    print("| network | precision | MB | s | CPU s | peak GB | PSNR, dB | peak GB to run |")
    print("|---|---|---|---|---|---|---|---|")
    for name in _NETWORKS.value:
        if not weights_of(name).is_file():
            apart("weights", name)
        if not beside(name, "-outputs.npz").is_file():
            apart("keras", name)
        for precision in _PRECISIONS.value:
            if precision in FORMATS and not beside(name, "-calibration.safetensors").is_file():
                print_row(name, "its calibration", apart("calibrate", name))
            made = apart("convert", name, precision)
            print_row(name, precision, made, apart("compare", name, precision))


def print_row(
    name: str, what: str, made: Mapping[str, float], run: Mapping[str, float] | None = None
) -> None:
    """A line of the table."""
    told = f"{run['psnr_db']:.1f} | {run['peak_gb']:.1f}" if run else "|"
    print(
        f"| `{name}` | {what} | {made['megabytes']:,.0f} | {made['seconds']:.0f} | "
        f"{made['cpu_seconds']:.0f} | {made['peak_gb']:.1f} | {told} |",
        flush=True,
    )


if __name__ == "__main__":
    run_main(main)
