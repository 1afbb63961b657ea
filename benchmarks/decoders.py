#!/usr/bin/env python3
"""Compares decoders of the same latents: size, likeness to teacher and pictures, TFLite latency.

    benchmarks/decoders.py --weights=runs/demo/autoencoder/weights.safetensors \
      --weights=runs/search/decoder/weights.safetensors \
      --weights=runs/search/tiny/weights.safetensors \
      --workdir=runs/search/decoder --split=validation+holdout \
      --latents=runs/search/pools/pool-000004.safetensors --json=decoders.json

The first is the teacher. Likeness to its decoder is measured on a pool of a UNet's latents, or
without --latents on those of the pictures; likeness to the pictures on their latents. The networks
are exported in float16 and timed in turn in one run.

A decoder's run keeps the pools that it learns from in its `cache`. One more, which it did not see:

    python -c 'from tfsnap.training.jobs.runs import load_job
    load_job("runs/search/decoder").source(4)'
"""

import pathlib
import sys
from dataclasses import asdict
from typing import Any

import numpy as np
from absl import flags

# Programs are run from anywhere: the repository's root holds `tools`.
sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))

from tfsnap.bench.turns import TurnsReport, time_in_turn
from tfsnap.config import write_json
from tfsnap.data.examples import spread
from tfsnap.export.converter import convert
from tfsnap.export.graphs import decoder_graph
from tfsnap.metrics.decoders import compare_decoder
from tfsnap.models.autoencoder import Autoencoder
from tfsnap.models.profile import profile_decoder
from tfsnap.training.jobs.inputs import DataConfig
from tfsnap.training.jobs.runs import load_job
from tfsnap.training.pictures import to_float
from tfsnap.weights.archive import load_trained
from tfsnap.weights.store import load_tensors
from tools.program import run_main

_WEIGHTS = flags.DEFINE_multi_string("weights", None, "An autoencoder's file. Repeatable.")
_WORKDIR = flags.DEFINE_string("workdir", None, "A run whose pictures are taken; else all emoji.")
_DATASET = flags.DEFINE_string("dataset", None, "By default the run's; without one, emoji.")
_RESOLUTION = flags.DEFINE_integer("resolution", None, "By default the run's; without one, 64.", 1)
_SPLIT = flags.DEFINE_string("split", "validation", "Several are joined by a plus; or all.")
_COUNT = flags.DEFINE_integer("count", None, "Pictures, spread over the split; by default all.", 1)
_LATENTS = flags.DEFINE_string("latents", None, "A pool of tools/train.py with a decoder's config.")
_THREADS = flags.DEFINE_integer("threads", 2, "Threads of the interpreter.", 1)
_WARMUP = flags.DEFINE_integer("warmup", 3, "Runs in a round before the measured ones.", 0)
_RUNS = flags.DEFINE_integer("runs", 20, "Measured runs in a round.", 1)
_ROUNDS = flags.DEFINE_integer("rounds", 7, "How often each network is timed, in turn.", 1)
_JSON = flags.DEFINE_string("json", None, "Also write the result to this file.")

_HEAD = ("parameters", "GMACs", "PSNR", "SSIM", "PSNR", "SSIM", "ms", "ratio", "lowest", "highest")
_OVER = ("", "", "teacher", "teacher", "image", "image", "", "", "", "")


def load_pictures() -> np.ndarray:
    """The pictures of the split, float32 [N, H, W, 3] in [-1, 1]."""
    data = load_job(_WORKDIR.value).data if _WORKDIR.value else DataConfig()
    given = {"dataset": _DATASET.value, "resolution": _RESOLUTION.value}
    examples = data.replace(**{k: v for k, v in given.items() if v}).load(_SPLIT.value)
    rows = spread(len(examples), min(len(examples), _COUNT.value or len(examples)))
    return to_float(examples.images[rows])


def load_pool(path: str) -> np.ndarray:
    """The latents of a pool, float32 [N, h, w, C], not scaled.

    Raises:
      ValueError: the file holds none.
    """
    tensors, _ = load_tensors(path)
    if "latent" not in tensors:
        raise ValueError(f"{path} is no pool of latents: it holds {', '.join(sorted(tensors)[:3])}")
    return tensors["latent"]


def time_decoders(models: dict[str, Autoencoder], latent: tuple[int, int]) -> TurnsReport:
    """Exports the decoders and times them."""
    return time_in_turn(
        {n: convert(decoder_graph(m, latent=latent), "fp16").to_bytes() for n, m in models.items()},
        threads=_THREADS.value,
        warmup=_WARMUP.value,
        runs=_RUNS.value,
        rounds=_ROUNDS.value,
    )


def measure() -> dict[str, Any]:
    """All that is measured, as JSON types."""
    models = {path: load_trained(path, "autoencoder").model for path in _WEIGHTS.value}
    teacher = next(iter(models.values()))
    pool = load_pool(_LATENTS.value) if _LATENTS.value else None
    images = load_pictures()
    rows = {}
    height, width = (side // teacher.config.downsampling for side in images.shape[1:3])
    for name, model in models.items():
        quality = compare_decoder(model, teacher=teacher, images=images, latents=pool)
        rows[name] = asdict(quality)
    latency = asdict(time_decoders(models, (height, width)))
    times = latency.pop("networks")
    for name, model in models.items():  # Last: Keras invalidates models when it builds in a graph.
        cost = profile_decoder(model.config, latent=(height, width))
        size = {"parameters": cost.parameters, "macs": cost.macs}
        rows[name] = {**size, **rows[name], "latency": times[name]}
    about = {"split": _SPLIT.value, "pictures": len(images), "size": list(images.shape[1:3])}
    latents = {"latents": "of the pictures" if pool is None else f"{len(pool)} of {_LATENTS.value}"}
    return {**about, **latents, "precision": "fp16", **latency, "decoders": rows}


def table(rows: dict[str, dict[str, Any]]) -> str:
    """The decoders as lines for a terminal."""
    lines = ["".join(f"{cell:>12}" for cell in head) for head in (_OVER, _HEAD)]
    for name, row in rows.items():
        likeness = [x for key in ("to_teacher", "to_image") for x in row[key].values()]
        cells = [f"{row['parameters']:,}", f"{row['macs'] / 1e9:.3f}"]
        cells += [f"{x:.4f}" for x in (*likeness, *row["latency"].values())]
        lines.append("".join(f"{cell:>12}" for cell in cells) + f"  {name}")
    return "\n".join(lines)


def main() -> None:
    result = measure()
    for name, value in result.items():
        if name != "decoders":
            print(f"{name:12}{value}")
    print(f"\n{table(result['decoders'])}")
    if _JSON.value:
        write_json(pathlib.Path(_JSON.value), result)


if __name__ == "__main__":
    flags.mark_flags_as_required(["weights"])
    run_main(main)
