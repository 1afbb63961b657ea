#!/usr/bin/env python3
"""The most that the interpreter computes on this machine, in GMAC/s, and what attention gets of it.

    benchmarks/peak.py

One operator in each network: a fully-connected layer and a convolution in int8 (dynamic range) and
in float32, and the two products of an attention of Stable Diffusion's 64 x 64 latent, one head. The
networks have their turns; the figures are those of their fastest round.
"""

import pathlib
import sys

# Programs are run from anywhere: the repository's root holds `tfsnap` where it is not installed.
sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))

import numpy as np
import tensorflow as tf
from absl import flags

from tfsnap.bench.device import describe_device
from tfsnap.bench.timing import time_network
from tfsnap.export.converter import convert
from tfsnap.export.graphs import Graph
from tfsnap.weights.store import in_memory
from tools.program import run_main

_THREADS = flags.DEFINE_integer("threads", 2, "Threads of the interpreter.", 1)
_ROUNDS = flags.DEFINE_integer("rounds", 5, "How often each network has its turn.", 1)
_TOKENS, _WIDTH = 4096, 40  # Places of the latent, and channels of a head.


def weighted(operator: str, x: list[int], kernel: list[int]) -> Graph:
    """One operator with a weight."""
    values = np.random.default_rng(0).standard_normal(kernel, dtype=np.float32)
    weight = tf.Variable(values, name=f"{operator}/kernel")
    apply = {
        "fully connected": tf.matmul,
        "convolution": lambda a, b: tf.nn.conv2d(a, b, 1, "SAME"),
    }
    function = tf.function(lambda x: {"y": apply[operator](x, weight)})
    return Graph(
        operator, function, {"x": tf.TensorSpec(x, name="x")}, [weight], in_memory([weight])
    )


def product(name: str, a: list[int], b: list[int], *, transpose_b: bool) -> Graph:
    """A product of two inputs."""
    function = tf.function(lambda a, b: {"y": tf.matmul(a, b, transpose_b=transpose_b)})
    specs = {"a": tf.TensorSpec(a, name="a"), "b": tf.TensorSpec(b, name="b")}
    return Graph(name, function, specs, [], {})


def main() -> None:
    dense = weighted("fully connected", [1, 2048, 2048], [2048, 2048])
    conv = weighted("convolution", [1, 64, 64, 640], [3, 3, 640, 640])
    rows, scores = [1, 1, _TOKENS, _WIDTH], [1, 1, _TOKENS, _TOKENS]
    # Multiplications of each, and its precision: float16 weights are computed with in float32.
    networks = {
        f"{graph.name}, {called}": (convert(graph, precision).to_bytes(), count)
        for graph, count in ((dense, 2048**3), (conv, 64**2 * 9 * 640**2))
        for precision, called in (("int8", "int8"), ("fp16", "float32"))
    }
    for graph in (
        product("queries and keys, float32", rows, rows, transpose_b=True),
        product("weights and values, float32", scores, rows, transpose_b=False),
    ):
        networks[graph.name] = (convert(graph, "fp16").to_bytes(), _TOKENS**2 * _WIDTH)
    best = dict.fromkeys(networks, float("inf"))
    for _ in range(_ROUNDS.value):
        for name, (model, _) in networks.items():
            timing = time_network(model, name=name, threads=_THREADS.value, warmup=1, runs=5)
            best[name] = min(best[name], timing.warm_p50_ms)
    print(f"{describe_device()}; {_THREADS.value} threads; fastest of {_ROUNDS.value} rounds\n")
    print("| operator | ms | GMAC/s |\n|---|---|---|")
    for name, ms in best.items():
        print(f"| {name} | {ms:.1f} | {networks[name][1] / ms / 1e6:.0f} |")


if __name__ == "__main__":
    run_main(main)
