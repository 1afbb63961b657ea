#!/usr/bin/env python3
"""Milliseconds of networks of Stable Diffusion's size, and of pictures made with them.

    benchmarks/converting.py --folder=/tmp/pictures  # Makes the networks; see there for fewer.
    benchmarks/keras_cv_unet.py --folder=/tmp/pictures
    benchmarks/pictures.py --folder=/tmp/pictures --rounds=3

Every network has its turn in every round, in a process of its own: loaded, run once and then
`--runs` times on random inputs. The processor's time, divided by the threads, is what the clock
would show if nothing else ran. What is missing from the folder is left out. The UNet of diffusers
runs in PyTorch, ONNX Runtime and OpenVINO (`benchmarks/other_runtimes.py` makes their files).

Pictures are sums: the text encoder for each context, the UNet for each context and step, the
decoder. `--picture=snapfusion-int8` draws one for real, with guidance: does the sum hold, and what
is the peak memory of it all? `--low_memory` and `--weight_cache` are those of the runtime. Prints
Markdown tables. Linux only, for the peak memory.
"""

import json
import pathlib
import statistics
import subprocess
import sys
import time

# Programs are run from anywhere: the repository's root holds `tfsnap` where it is not installed.
sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))

from absl import flags

from benchmarks import other_runtimes
from benchmarks.other_runtimes import Run
from benchmarks.random_inputs import random_inputs
from tfsnap.bench.device import describe_device, peak_memory_mb
from tfsnap.bench.timing import timed
from tfsnap.runtime.interpreter import Network, load
from tfsnap.runtime.shelf import Shelf, ShelvedNetwork
from tfsnap.runtime.weight_cache import CachedNetwork
from tools.program import run_main

_PRECISIONS = ("int8", "fp16")
_UNETS = ("keras_cv", "sd15", "snapfusion", "snapfusion_848m")
_PARTS = ("text_encoder", "decoder-sd15", "decoder-snapfusion")
TFLITE = [
    *(f"unet-{name}-{precision}" for precision in _PRECISIONS for name in _UNETS),
    *(f"{name}-{precision}" for precision in _PRECISIONS for name in _PARTS),
]

_FOLDER = flags.DEFINE_string("folder", None, "Where the networks are.", required=True)
_NETWORKS = flags.DEFINE_multi_string("network", [*TFLITE, *other_runtimes.NAMES], "Repeatable.")
_THREADS = flags.DEFINE_integer("threads", 2, "Threads of every network.", 1)
_RUNS = flags.DEFINE_integer("runs", 2, "Measured runs in a turn.", 1)
_ROUNDS = flags.DEFINE_integer("rounds", 3, "How often each network has its turn.", 0)
_STEPS = flags.DEFINE_integer("steps", 8, "Of the picture that is run for real.", 1)
_PICTURES = flags.DEFINE_multi_string("picture", [], "Such as sd15-int8. Repeatable.")
_LOW_MEMORY = flags.DEFINE_bool("low_memory", False, "One network of a picture at a time.")
_CACHE = flags.DEFINE_bool("weight_cache", False, "XNNPACK's copies of weights in the folder.")
_STAGE = flags.DEFINE_enum("stage", None, ["network", "picture"], "Internal: what a process does.")


def tflite(name: str) -> Network | CachedNetwork:
    """A network of the folder."""
    file = pathlib.Path(_FOLDER.value, f"{name}.tflite")
    if not _CACHE.value:
        return load(file, name=name, threads=_THREADS.value)
    cache = pathlib.Path(_FOLDER.value, f"{name}.xnnpack")
    return CachedNetwork(file, cache, name=name, threads=_THREADS.value)


def tflite_run(name: str, shelf: Shelf | None = None) -> Run:
    """An evaluation of a network of the folder on random inputs."""
    network = tflite(name) if shelf is None else ShelvedNetwork(lambda: tflite(name), shelf)
    network.set(**random_inputs({t.name: (t.shape, t.dtype) for t in network.inputs}))
    return network.invoke


def prepare(name: str) -> Run:
    """Loads a network; what it returns evaluates it."""
    if name in other_runtimes.NAMES:
        return other_runtimes.prepare(name, _THREADS.value, pathlib.Path(_FOLDER.value))
    return tflite_run(name)


def cpu_timed(run: Run) -> tuple[float, float]:
    """Milliseconds of a run on the clock, and of the processor for each thread."""
    before = time.process_time()
    _, ms = timed(run)
    return ms, 1000 * (time.process_time() - before) / _THREADS.value


def measure_network(name: str) -> dict[str, object]:
    """One turn of a network."""
    run, load_ms = timed(lambda: prepare(name))
    _, first_ms = timed(run)
    ms, cpu = zip(*(cpu_timed(run) for _ in range(_RUNS.value)), strict=True)
    return {"load": load_ms, "first": first_ms, "ms": ms, "cpu": cpu}


def measure_picture(name: str) -> dict[str, object]:
    """Text, steps with guidance and the decoder: loading and drawing."""
    preset, _, precision = name.rpartition("-")
    decoder = "snapfusion" if preset.startswith("snapfusion") else "sd15"
    names = ("text_encoder", f"unet-{preset}", f"decoder-{decoder}")
    shelf = Shelf() if _LOW_MEMORY.value else None
    (text, unet, decode), load_ms = timed(
        lambda: [tflite_run(f"{network}-{precision}", shelf) for network in names]
    )
    plan = [text] * 2 + [unet] * (2 * _STEPS.value) + [decode]
    return {"load": load_ms, "ms": timed(lambda: [run() for run in plan])[1]}


def apart(stage: str, name: str) -> dict:
    """Runs a stage in a process of its own and returns what it says."""
    told = ("folder", "threads", "runs", "steps", "low_memory", "weight_cache")
    command = [sys.executable, __file__, f"--stage={stage}", f"--network={name}"]
    command += [f"--{flag}={flags.FLAGS[flag].value}" for flag in told]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise ChildProcessError(f"{name} failed: {done.stderr[-2000:]}")
    return json.loads(done.stdout.splitlines()[-1])


def is_there(name: str) -> bool:
    """Whether a network can be measured."""
    folder = pathlib.Path(_FOLDER.value)
    if name in other_runtimes.NAMES:
        return other_runtimes.is_there(folder, name)
    return (folder / f"{name}.tflite").exists()


def print_networks(found: dict[str, list[dict]]) -> dict[str, float]:
    """The table of single runs; returns their medians."""
    print("| network | ms | lowest, highest | CPU ms | load, ms | first, ms | peak, MB |")
    print("|---|---|---|---|---|---|---|")
    medians = {}
    for name, turns in found.items():
        ms, cpu = ([run for turn in turns for run in turn[key]] for key in ("ms", "cpu"))
        medians[name] = statistics.median(ms)
        middle = [statistics.median(cpu)]
        middle += [statistics.median(t[key] for t in turns) for key in ("load", "first", "peak")]
        print(
            f"| {name} | {medians[name]:,.0f} | {min(ms):,.0f}, {max(ms):,.0f} | "
            + " | ".join(f"{value:,.0f}" for value in middle)
            + " |"
        )
    return medians


def print_pictures(ms: dict[str, float]) -> None:
    """The table of sums, where all parts were measured."""
    print("\n| UNet, decoder | precision | steps, evaluations | s a picture |\n|---|---|---|---|")
    for precision in _PRECISIONS:
        for unet in _UNETS:
            decoder = "snapfusion" if unet.startswith("snapfusion") else "sd15"
            names = ("text_encoder", f"unet-{unet}", f"decoder-{decoder}")
            parts = [ms.get(f"{name}-{precision}") for name in names]
            if None in parts:
                continue
            for steps, contexts in ((50, 2), (8, 2), (8, 1)):
                seconds = (contexts * (parts[0] + steps * parts[1]) + parts[2]) / 1000
                count = f"{steps}, {steps * contexts}"
                print(f"| {unet}, {decoder} | {precision} | {count} | {seconds:.2f} |")


def main() -> None:
    if _STAGE.value:
        (name,) = _NETWORKS.value
        stage = {"network": measure_network, "picture": measure_picture}[_STAGE.value]
        print(json.dumps({**stage(name), "peak": peak_memory_mb()}))
        return
    names = [name for name in _NETWORKS.value if is_there(name)]
    found: dict[str, list[dict]] = {name: [] for name in names}
    for number in range(_ROUNDS.value):
        for name in names if number % 2 == 0 else reversed(names):
            found[name].append(apart("network", name))
            print(name, found[name][-1], file=sys.stderr, flush=True)
    print(f"{describe_device()}; {_THREADS.value} threads, {_ROUNDS.value} rounds\n")
    if _ROUNDS.value:
        print_pictures(print_networks(found))
    for name in _PICTURES.value:
        turn = apart("picture", name)
        seconds = [turn[key] / 1000 for key in ("load", "ms")]
        print(
            f"\n{name}, run: loaded in {seconds[0]:.2f} s, drawn in {seconds[1]:.2f} s with "
            f"{2 * _STEPS.value} evaluations, peak {turn['peak']:.0f} MB"
        )


if __name__ == "__main__":
    run_main(main)
