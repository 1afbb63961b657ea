#!/usr/bin/env python3
"""Networks of Stable Diffusion's size on this machine's Vulkan GPU: whole, right, and how fast.

    benchmarks/converting.py --folder=/tmp/pictures --precision=fp16  # Makes the networks.
    benchmarks/gpu_networks.py --folder=/tmp/pictures
    benchmarks/gpu_networks.py --folder=/tmp/pictures --network=unet-snapfusion-fp16 --rounds=5
    benchmarks/gpu_networks.py --bundle=tfsnap/presets/emoji-64/emoji-64-fp16.tfsnap

Every network is compiled for the GPU alone in a process of its own, in float32 and in float16, and
compared with the CPU on random inputs. Then it runs: `--together` networks are held at once and
have their turns, round by round. A run includes reading its outputs. What is missing from the
folder is left out. TensorFlow is not needed: numpy, Pillow, absl-py and ai-edge-litert are enough.
Prints a Markdown table.
"""

import contextlib
import itertools
import json
import pathlib
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from typing import NamedTuple

# Programs are run from anywhere: the repository's root holds `tfsnap` where it is not installed.
sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))

import numpy as np
from absl import flags
from ai_edge_litert.compiled_model import CompiledModel

from benchmarks.random_inputs import random_inputs
from tfsnap.bench.device import describe_device
from tfsnap.bench.gpu import adapter_in
from tfsnap.bench.gpu_process import runner, since, timed
from tfsnap.export.delegate import log_errors
from tfsnap.export.delegate_process import CPU, evaluate, gpu_options, relative_error
from tfsnap.runtime.bundle import Bundle
from tfsnap.tokenizer import VOCAB_SIZE
from tools.program import run_main

NETWORKS = (
    "text_encoder",
    "unet-sd15",
    "unet-snapfusion",
    "unet-snapfusion_848m",
    "decoder-sd15",
    "decoder-snapfusion",
    "encoder-sd15",
)
PRECISIONS = ("float32", "float16")

_HEAD = """\
| network | GPU computes in | whole | error | ms | from, to | load, s | first, s |
|---|---|---|---|---|---|---|---|"""

_FOLDER = flags.DEFINE_string("folder", None, "Where the networks are.")
_BUNDLE = flags.DEFINE_string("bundle", None, "Instead: a bundle; of several sizes the first.")
_NAMES = flags.DEFINE_multi_string("network", [f"{n}-fp16" for n in NETWORKS], "Of the folder.")
_PRECISIONS = flags.DEFINE_multi_enum("precision", PRECISIONS, PRECISIONS, "Repeatable.")
_TOGETHER = flags.DEFINE_integer("together", 1, "Networks in memory at once.", 1)
_RUNS = flags.DEFINE_integer("runs", 10, "Measured runs in a turn, after one that is not.", 1)
_ROUNDS = flags.DEFINE_integer("rounds", 3, "How often each network has its turn.", 1)
_STAGE = flags.DEFINE_string("stage", None, "Internal: the network of a process.")
_TOKENS = flags.DEFINE_integer("tokens", VOCAB_SIZE, "Internal: how many there are.")


def inputs_of(model: CompiledModel) -> dict[str, np.ndarray]:
    """Random inputs of a network."""
    (signature, *_) = model.get_signature_list()
    wanted = model.get_input_tensor_details(signature)
    described = {name: (details["shape"], details["dtype"]) for name, details in wanted.items()}
    return random_inputs(described, vocabulary=_TOKENS.value)


def serve(path: str, precision: str) -> None:
    """Compiles and compares a network, then answers every line of stdin with a turn's times."""
    model = CompiledModel.from_file(path, options=CPU)
    inputs = inputs_of(model)
    expected = evaluate(model, inputs)
    del model  # Its weights are as large as the GPU's.
    start = time.perf_counter_ns()
    model = CompiledModel.from_file(path, options=gpu_options(precision))
    load, start = since(start), time.perf_counter_ns()
    found = evaluate(model, inputs)
    first = since(start)
    errors = [relative_error(found[name], expected[name]) for name in expected]
    say({"whole": model.is_fully_accelerated(), "error": max(errors), "load": load, "first": first})
    run = runner(model, inputs)
    for _ in sys.stdin:
        say([timed(run) for _ in range(1 + _RUNS.value)][1:])


def say(answer: object) -> None:
    """Writes a line that `Server` reads."""
    print("\n" + json.dumps(answer), flush=True)


class Network(NamedTuple):
    """A TFLite file.

    Attributes:
      name: for people.
      path: of the file.
      tokens: how many a vocabulary has.
    """

    name: str
    path: pathlib.Path
    tokens: int = VOCAB_SIZE


class Server:
    """The process of a network in one precision.

    Args:
      network: what it runs.
      precision: of the GPU.
      scratch: where its log goes.
    """

    def __init__(self, network: Network, precision: str, scratch: str):
        self.label = f"`{network.name}` | {precision}"
        self.ms: list[float] = []
        self.about: dict[str, float] = {}
        self._log = pathlib.Path(scratch, f"{network.name}-{precision}.log")
        told = [f"--stage={network.path}", f"--tokens={network.tokens}"]
        told += [f"--precision={precision}", f"--runs={_RUNS.value}"]
        self._process = subprocess.Popen(
            [sys.executable, __file__, *told],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._log.open("w"),
            text=True,
        )

    def prepare(self) -> None:
        """Waits until the network was compared with the CPU."""
        answer = self._answer()
        self.about = answer if isinstance(answer, dict) else {}

    def turn(self) -> None:
        """Lets the network run, if it could be compiled."""
        if self.about:
            self._process.stdin.write("\n")
            self._process.stdin.flush()
            self.ms += self._answer() or []

    def end(self) -> str:
        """Ends the process and returns a row of the table."""
        self._process.stdin.close()
        self._process.stdout.close()
        self._process.wait()
        log = self._log.read_text(errors="replace")
        complaints = log_errors(log)
        if not self.ms or complaints:
            print(f"{self.label}: {' '.join(complaints) or log[-500:]}", file=sys.stderr)
        if not self.ms:
            return f"| {self.label} | no | | | | | |"
        whole = "yes" if self.about["whole"] and not complaints else "no"
        return (
            f"| {self.label} | {whole} | {self.about['error']:.1e} | "
            f"{statistics.median(self.ms):.1f} | {min(self.ms):.1f}, {max(self.ms):.1f} | "
            f"{self.about['load'] / 1000:.1f} | {self.about['first'] / 1000:.1f} |"
        )

    @property
    def gpu(self) -> str | None:
        """The GPU's name, from the log."""
        return adapter_in(self._log.read_text(errors="replace"))

    def _answer(self) -> dict[str, float] | list[float] | None:
        """The next line that is JSON; None if the process ends before."""
        for line in self._process.stdout:
            if line.startswith(("{", "[")):
                return json.loads(line)
        return None


@contextlib.contextmanager
def servers(pairs: list[tuple[Network, str]]) -> Iterator[list[Server]]:
    """Processes of several networks, all of which were prepared."""
    with tempfile.TemporaryDirectory() as scratch:
        started = [Server(*pair, scratch) for pair in pairs]
        for server in started:
            server.prepare()
        yield started


def measure(pairs: list[tuple[Network, str]]) -> str | None:
    """Prints the rows of networks that are held in memory together; returns the GPU's name."""
    with servers(pairs) as started:
        for number in range(_ROUNDS.value):
            for server in started if number % 2 == 0 else reversed(started):
                server.turn()
        for server in started:
            print(server.end(), flush=True)
        return next(filter(None, (server.gpu for server in started)), None)


@contextlib.contextmanager
def networks() -> Iterator[list[Network]]:
    """The networks of the folder or the bundle."""
    if _FOLDER.value:
        paths = [pathlib.Path(_FOLDER.value, f"{name}.tflite") for name in _NAMES.value]
        found = [Network(path.stem.removesuffix("-fp16"), path) for path in paths if path.is_file()]
        if not found:
            raise FileNotFoundError(f"{_FOLDER.value} has no {', '.join(p.name for p in paths)}")
        yield found
        return
    bundle = Bundle.open(_BUNDLE.value)
    tokens = bundle.manifest.tokenizer.vocab_size or VOCAB_SIZE
    with contextlib.ExitStack() as lent:
        yield [
            Network(pathlib.Path(part.file).stem, lent.enter_context(path), tokens)
            for name, component in bundle.manifest.components.items()
            for part in component.files
            for path in [bundle.lend(name, part.file)]
        ]


def main() -> None:
    if _STAGE.value:
        serve(_STAGE.value, *_PRECISIONS.value)
        return
    with networks() as found:
        pairs = list(itertools.product(found, _PRECISIONS.value))
        print(_HEAD)
        starts = range(0, len(pairs), _TOGETHER.value)
        gpus = [measure(pairs[start : start + _TOGETHER.value]) for start in starts]
        print(f"\n{next(filter(None, gpus), 'no GPU')}; {describe_device()}")


if __name__ == "__main__":
    flags.mark_flags_as_mutual_exclusive(["folder", "bundle", "stage"], required=True)
    run_main(main)
