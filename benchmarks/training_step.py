#!/usr/bin/env python3
"""What a training step costs, and what each way of making it cheaper saves.

    benchmarks/training_step.py --config=configs/photos/unet.py \
      --variant= --variant=jit_compile=True --variant=precision=bfloat16,jit_compile=True

trains the UNet of a config on random latents, each variant of its `training` section in a process
of its own, one after another and `--rounds` times over, and prints a table: time of a step, of the
first one, which includes compiling, the process's peak memory, and how the rate compares with that
of large float32 matrix products, measured by each process before it begins. Times are medians.
"""

import dataclasses
import json
import math
import os
import pathlib
import resource
import statistics
import subprocess
import sys
import time
from typing import Any

from absl import flags
from ml_collections import config_flags

# Programs are run from anywhere: the repository's root holds `configs`.
sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))
os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")  # As tools/train.py does.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

from tfsnap.training.config import TrainingConfig
from tools.program import ROOT, run_main

_CONFIG = config_flags.DEFINE_config_file("config", None, "A UNet's config: a file in configs/.")
_VARIANTS = flags.DEFINE_multi_string(
    "variant",
    [""],
    "Fields of config.training, or config.run_probability, to change: `a=1,b=2`. A value with "
    "commas is joined by plus signs. Repeatable; an empty one is the config as it is.",
)
_STEPS = flags.DEFINE_integer(
    "steps", 8, "Timed steps of a process, or as many more as a call has.", 1
)
_ROUNDS = flags.DEFINE_integer("rounds", 2, "Processes of each variant.", 1)
_LATENT = flags.DEFINE_integer("latent", 16, "Side of the latents.", 1)
_TOKENS = flags.DEFINE_integer("tokens", 32, "Length of the text embeddings.", 1)
_JSON = flags.DEFINE_string("json", None, "Also write all figures to this file.")
_WORKERS = flags.DEFINE_integer(
    "workers",
    0,
    "Train with so many workers, each on a core of its own; 0 is one process on all cores.",
    0,
)
_CHILD = flags.DEFINE_string("child", None, "For the program itself: measure this variant only.")

_ROBUST = "run_probability"  # A field of the job that changes what a step costs.
_PEAK_SIDE = 2048  # Of the square matrices of the comparison.
_BATCHES = 50  # Made to measure the input pipeline.
_FIGURES = "figures: "


@dataclasses.dataclass(frozen=True)
class Measured:
    """One process.

    Attributes:
      peak: float32 matrix products, GFLOP/s.
      first: seconds until the first call has returned.
      steps: seconds of a step, for each of the other calls.
      memory: largest resident memory, bytes.
      flops: of a step: two for each multiply-accumulate, and three times the forward pass, once for
        it and twice for its gradients.
      batch: seconds to make a batch, when nothing is trained.
    """

    peak: float
    first: float
    steps: list[float]
    memory: int
    flops: float
    batch: float


def changes(variant: str) -> dict[str, Any]:
    """The fields that a variant changes.

    Example:
      >>> changes("jit_compile=True,rematerialize=down.0+up.*")
      {'jit_compile': True, 'rematerialize': ('down.0', 'up.*')}

    Raises:
      ValueError: a field is unknown or its value is of another type.
    """
    types = {field.name: type(field.default) for field in dataclasses.fields(TrainingConfig)}
    types[_ROBUST] = float
    found = {}
    for part in filter(None, variant.split(",")):
        name, given, text = part.partition("=")
        if name not in types or not given:
            raise ValueError(f"{part!r} is no field of training with its value, as accumulate=4 is")
        if types[name] is tuple:
            found[name] = tuple(filter(None, text.split("+")))
        else:
            found[name] = text == "True" if types[name] is bool else types[name](text)
    return found


def matmul_peak() -> float:
    """GFLOP/s of float32 matrix products with TensorFlow, the best of some."""
    import tensorflow as tf

    matrix = tf.random.normal([_PEAK_SIDE, _PEAK_SIDE])
    seconds = []
    for _ in range(6):
        began = time.perf_counter()
        tf.matmul(matrix, matrix).numpy()
        seconds.append(time.perf_counter() - began)
    return 2 * _PEAK_SIDE**3 / min(seconds) / 1e9


def measure(variant: str) -> Measured:
    """Trains with one variant, in this process."""
    import numpy as np

    from tfsnap.data.source import BatchSource
    from tfsnap.diffusion.schedule import NoiseSchedule
    from tfsnap.heap import keep_freed_memory
    from tfsnap.models.profile import profile_unet
    from tfsnap.models.unet import build_unet
    from tfsnap.objectives.denoise import Denoise
    from tfsnap.objectives.robust import Robust
    from tfsnap.training.jobs import UNetJob, job_from_dict
    from tfsnap.training.lora import LoraUNet
    from tfsnap.training.strategy import make_strategy, place_of_environment
    from tfsnap.training.trainer import Trainer

    class RandomJob(UNetJob):
        """The config's network on random latents and text embeddings."""

        def build(self) -> Any:
            objective = Denoise(
                text_encoder=None,
                schedule=NoiseSchedule(self.schedule),
                prediction=self.prediction,
                scale=1.0,
            )
            network = build_unet(self.model)
            if self.run_probability < 1.0:
                objective = Robust(objective, self.run_probability)
            return LoraUNet(network, self.lora) if self.lora.rank else network, objective

        def source(self) -> BatchSource:
            rng, rows, unet = np.random.default_rng(0), self.training.batch_size, self.model
            moments = (rows, _LATENT.value, _LATENT.value, 2 * unet.in_channels)
            context = (rows, _TOKENS.value, unet.context_width)
            return BatchSource(
                tables={
                    "moments": rng.standard_normal(moments).astype(np.float16),
                    "context": rng.standard_normal(context).astype(np.float16),
                },
                index=np.arange(rows),
                batch_size=rows,
                seed=0,
            )

    keep_freed_memory()
    if _WORKERS.value:
        os.sched_setaffinity(0, {place_of_environment().worker})
    # First of all: several workers must know of each other before TensorFlow does anything.
    strategy = make_strategy("multi_worker" if _WORKERS.value > 1 else "one")
    job = job_from_dict(_CONFIG.value.to_dict())
    changed = changes(variant)
    kept = {name: getattr(job, name) for name in ("model", "prediction", "lora", _ROBUST)}
    kept[_ROBUST] = changed.pop(_ROBUST, kept[_ROBUST])
    training = job.training.replace(**changed)
    job = RandomJob(training=training.replace(init=""), **kept)
    peak = matmul_peak()
    trainer = Trainer(job, workdir=pathlib.Path("/nonexistent"), strategy=strategy)
    seconds, together, calls = [], training.steps_per_call, trainer.calls()
    for _ in range(calls(_STEPS.value, together)):
        began = time.perf_counter()
        float(next(calls)["loss"])
        seconds.append((time.perf_counter() - began) / together)
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    cost = profile_unet(job.model, latent=(_LATENT.value,) * 2, tokens=_TOKENS.value)
    flops = 2.0 * 3 * training.batch_size * cost.macs
    return Measured(peak, seconds[0] * together, seconds[1:], memory, flops, batch_seconds(job))


def calls(steps: int, together: int) -> int:
    """How often the trainer is called: once to compile, then for at least so many timed steps.

    Args:
      steps: that are timed.
      together: steps of a call.
    """
    return 1 + math.ceil(steps / together)


def batch_seconds(job: Any) -> float:
    """How long the input pipeline takes for a batch."""
    batches = iter(job.batches(0))
    next(batches)
    began = time.perf_counter()
    for _ in range(_BATCHES):
        next(batches)
    return (time.perf_counter() - began) / _BATCHES


def in_process(variant: str) -> Measured | None:
    """Measures in a process of its own, so that peak memory is the variant's; None if it fails."""
    command = [*sys.argv, f"--child={variant or 'none'}"]
    if _WORKERS.value:
        launcher = str(ROOT / "tools/launch_local.py")
        command = [launcher, f"--workers={_WORKERS.value}", "--restarts=0", "--", *command]
    done = subprocess.run([sys.executable, *command], capture_output=True, text=True)
    for line in done.stdout.splitlines():
        _, found, figures = line.partition(_FIGURES)  # A launcher's lines begin with a number.
        if found:
            return Measured(**json.loads(figures))
    # A launcher prints what its workers say on its output, and has the last word itself.
    said = done.stdout if _WORKERS.value else done.stderr
    lines = [line for line in said.splitlines() if "training_step: " in line or "Error" in line]
    last = lines[-1] if lines else "no message"
    name = variant or "the config as it is"
    print(f"training_step: {name} failed ({done.returncode}): {last}", file=sys.stderr)
    return None


def row(variant: str, runs: list[Measured]) -> str:
    """One line of the table."""
    seconds = statistics.median(second for run in runs for second in run.steps)
    rate = runs[0].flops / seconds / 1e9
    peak = max(1, _WORKERS.value) * statistics.median(run.peak for run in runs)
    return (
        f"| {variant or '(as it is)'} | {seconds:.2f} s | "
        f"{statistics.median(run.first for run in runs):.0f} s | "
        f"{statistics.median(run.batch for run in runs) * 1e3:.1f} ms | "
        f"{max(run.memory for run in runs) / 1e9:.2f} GB | {rate:.0f} of {peak:.0f} GFLOP/s, "
        f"{rate / peak:.0%} |"
    )


def main() -> None:
    if _CHILD.value:
        found = measure("" if _CHILD.value == "none" else _CHILD.value)
        print(_FIGURES + json.dumps(dataclasses.asdict(found)), flush=True)
        return
    training = TrainingConfig.from_dict(_CONFIG.value.training.to_dict())
    for variant in _VARIANTS.value:
        try:  # What no config can be stops the program before it has begun.
            changed = changes(variant)
            changed.pop(_ROBUST, None)
            training.replace(**changed)
        except ValueError as error:
            raise ValueError(f"--variant={variant}: {error}") from error
    runs: dict[str, list[Measured]] = {variant: [] for variant in _VARIANTS.value}
    for _ in range(_ROUNDS.value):
        for variant, found in runs.items():
            run = in_process(variant)
            if run:
                found.append(run)
                print(row(variant, [run]), file=sys.stderr, flush=True)
            if _JSON.value:
                plain = {v: [dataclasses.asdict(run) for run in runs[v]] for v in runs}
                pathlib.Path(_JSON.value).write_text(json.dumps(plain, indent=2) + "\n")
    print("| `training` | step | first | a batch | peak memory | rate |\n|---|---|---|---|---|---|")
    for variant, found in runs.items():
        print(row(variant, found) if found else f"| {variant} | failed | | | | |")


if __name__ == "__main__":
    flags.mark_flags_as_required(["config"])
    run_main(main)
