#!/usr/bin/env python3
"""Measures every distinct block of a UNet by itself on this machine, as TFLite.

    tools/latency_table.py --unet=sd15 --latent=64x64 --threads=2 --output=table.json
    tools/latency_table.py --unet=sd15 --unet=snapfusion --output=table.json --check

Each block is exported and timed by the harness of tools/benchmark.py; interrupted, the same command
goes on, and another that adds to the same table loses nothing of it. --check also exports and times
whole networks and compares with the sum of their blocks. A table that was measured elsewhere, on a
phone, has the same format. With --delegate=gpu every block must run whole on the GPU.
"""

import pathlib
import statistics
import sys

from absl import flags

# Programs are run from anywhere: the repository's root holds `tools`.
sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))

from tfsnap.bench.device import describe_device
from tfsnap.bench.gpu import time_on_gpu
from tfsnap.bench.timing import time_network
from tfsnap.config import UNetConfig, differences
from tfsnap.evolve.latency import LatencyError, LatencyTable
from tfsnap.export.converter import PRECISIONS, convert
from tfsnap.export.graphs import Graph, block_graph, unet_graph
from tfsnap.lock import locked
from tfsnap.models.blocks import Block, blocks_of
from tfsnap.models.presets import find_unet
from tfsnap.models.unet import build_unet
from tfsnap.runtime.output import require_report
from tfsnap.runtime.sizes import parse_size
from tools.program import run_main

_UNETS = flags.DEFINE_multi_string("unet", None, "Name of a preset, or a JSON file. Repeatable.")
_OUTPUT = flags.DEFINE_string("output", None, "The table: a JSON file, continued if it exists.")
_LATENT = flags.DEFINE_string("latent", "64x64", "Height and width of the latent.")
_TOKENS = flags.DEFINE_integer("tokens", 77, "Length of the text embedding.", 1)
_PRECISION = flags.DEFINE_enum(
    "precision", None, PRECISIONS, "How weights are stored; by default int8, on a GPU fp16."
)
_DELEGATE = flags.DEFINE_enum(
    "delegate", "cpu", ["cpu", "gpu"], "What runs the blocks; the GPU needs Vulkan."
)
_THREADS = flags.DEFINE_integer("threads", 2, "Threads of the interpreter.", 1)
_WARMUP = flags.DEFINE_integer("warmup", 3, "Runs of a block before the measured ones.", 0)
_RUNS = flags.DEFINE_integer("runs", 20, "Measured runs of a block; the table has their median.", 1)
_CHECK = flags.DEFINE_bool("check", False, "Compare with whole networks.")


def on_gpu() -> bool:
    """Whether the GPU is asked for."""
    return _DELEGATE.value == "gpu"


def precision() -> str:
    """How weights are stored."""
    return _PRECISION.value or ("fp16" if on_gpu() else "int8")


def exported(graph: Graph) -> bytes:
    """A network as TFLite."""
    return convert(graph, precision()).to_bytes()


def about(probe: Block) -> dict[str, object]:
    """What makes two measurements comparable; a run of a block tells the GPU's name."""
    found = {
        "device": describe_device(),
        "delegate": _DELEGATE.value,
        "threads": _THREADS.value,
        "precision": precision(),
        "warmup": _WARMUP.value,
        "runs": _RUNS.value,
    }
    if on_gpu():
        model = exported(block_graph(probe))
        _, found["gpu"] = time_on_gpu(model, name=probe.kind, warmup=0, runs=1)
        print(f"GPU: {found['gpu']}")
    return found


def open_table(path: pathlib.Path, now: dict[str, object]) -> LatencyTable:
    """The table so far.

    Raises:
      LatencyError: it was measured in another way.
    """
    if not path.is_file():
        return LatencyTable({}, now)
    table = LatencyTable.load(path)
    changed = differences(dict(table.about), now)
    if changed:
        raise LatencyError(
            f"{path} was measured otherwise ({'; '.join(changed)}): use another --output"
        )
    return table


def timed(model: bytes, name: str) -> float:
    """Median milliseconds of a network."""
    counts = {"warmup": _WARMUP.value, "runs": _RUNS.value}
    if on_gpu():
        timing, _ = time_on_gpu(model, name=name, **counts)
    else:
        timing = time_network(model, name=name, threads=_THREADS.value, **counts)
    return timing.warm_p50_ms


def add(path: pathlib.Path, now: dict[str, object], block: Block, ms: float) -> LatencyTable:
    """Writes the table with one more block, beside those that other processes wrote meanwhile."""
    with locked(path.with_name(f".{path.name}.lock")):
        table = open_table(path, now)
        table = LatencyTable({**table.ms, block: ms}, now)
        table.save(path)
    return table


def measure(table: LatencyTable, blocks: list[Block], path: pathlib.Path) -> LatencyTable:
    """Adds the blocks that the table lacks, and writes it after each."""
    missing = table.missing(blocks)
    for number, block in enumerate(missing, start=1):
        ms = timed(exported(block_graph(block)), block.kind)
        table = add(path, dict(table.about), block, ms)
        print(f"{number}/{len(missing)} {ms:9.3f} ms  {block}", flush=True)
    return table


def check(table: LatencyTable, unets: dict[str, UNetConfig], latent: tuple[int, int]) -> None:
    """Compares the sums with whole networks."""
    errors = []
    for name, config in unets.items():
        graph = unet_graph(build_unet(config), latent=latent, tokens=_TOKENS.value)
        measured = timed(exported(graph), name)
        predicted = table.predict(config, latent=latent, tokens=_TOKENS.value)
        errors.append(predicted / measured - 1)
        print(f"{name}: predicted {predicted:.1f} ms, measured {measured:.1f}, {errors[-1]:+.1%}")
    print(f"median of the errors' sizes: {statistics.median(map(abs, errors)):.1%}")


def main() -> None:
    latent = parse_size(_LATENT.value)
    unets = {name: find_unet(name) for name in _UNETS.value}
    path = pathlib.Path(_OUTPUT.value)
    require_report(path, flag="--output")  # Before what takes minutes.
    wanted = [
        block
        for config in unets.values()
        for block in blocks_of(config, latent=latent, tokens=_TOKENS.value).values()
    ]
    table = measure(open_table(path, about(wanted[0])), wanted, path)
    if _CHECK.value:
        check(table, unets, latent)
    print(f"Table: {path}, {len(table.ms)} blocks")


if __name__ == "__main__":
    flags.mark_flags_as_required(["unet", "output"])
    run_main(main, after="the same command goes on")
