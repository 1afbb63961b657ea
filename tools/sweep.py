#!/usr/bin/env python3
r"""Draws distance against CLIP score over guidance scales and steps, as SnapFusion's Figs. 4, 6, 7.

    tools/sweep.py --networks=teacher=runs/distill/teacher16,student=runs/distill/efficient8 \
        --guidance=1,2,3,4 --steps=8,16,50 --count=208 --output=runs/sweep
    tools/sweep.py --networks='long=runs/emoji/unet?steps=50,short=runs/emoji/unet?steps=8' \
        --output=runs/steps
    tools/sweep.py --networks=int8=runs/emoji/int8 --clip=runs/emoji/clip/weights.safetensors \
        --guidance=1,2,4 --split=holdout --output=runs/int8
    tools/sweep.py --networks=sd=runs/sd15 --dataset=data/coco --resolution=512 --prompts=coco \
        --split=all --count=30000 --clip=clip-g/clip.safetensors --inception=pt_inception.pth \
        --references=coco=coco.npz --output=runs/coco

Each network is the workdir of a UNet's run or a bundle; NAME@0, NAME@1 and so on are trainings of
one network by several seeds, and the tables have their means as well. Features of what was
generated stay in --output: a sweep that was stopped goes on, and points and networks may be added.
See docs/metrics.md.
"""

import dataclasses
import functools
import itertools
import pathlib
import sys
from collections.abc import Sequence

import numpy as np
from absl import flags

# Programs are run from anywhere: the repository's root holds `tools`.
sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))

from tfsnap.data.clip_tokens import clip_tokenizer
from tfsnap.data.examples import ALL, spread
from tfsnap.metrics.curves import write_results
from tfsnap.metrics.features import embed_all, inception_space
from tfsnap.metrics.judge import Captions, Judge
from tfsnap.metrics.prompts import COCO_SIDE, Prompt, coco_30k
from tfsnap.metrics.quality import RESAMPLES
from tfsnap.metrics.reference import Reference, load_reference
from tfsnap.metrics.sweep import Point, Result, Sweep, shared_name
from tfsnap.training.jobs.inputs import DataConfig
from tfsnap.training.jobs.runs import is_run, load_unet_job
from tfsnap.weights.archive import load_trained
from tfsnap.weights.from_pytorch_fid import load_inception
from tools.flag_lists import NetworkFlag, named_paths, networks, numbers
from tools.generators import Draw, finite_uint8, open_generator, require_generator
from tools.program import run_main

_NETWORKS = flags.DEFINE_list(
    "networks",
    None,
    "NAME=PATH?steps=8&guidance=3&sampler=ddim of runs and bundles; NAME@0, NAME@1 are trainings.",
)
_OUTPUT = flags.DEFINE_string("output", None, "Folder of features, tables and plots.")
_GUIDANCE = flags.DEFINE_list("guidance", ["4"], "Scales; a baked-in one takes their place.")
_STEPS = flags.DEFINE_list("steps", [], "Step counts; by default each network's own.")
_SPLIT = flags.DEFINE_string("split", "validation", "Whose captions; several with a plus; or all.")
_DATASET = flags.DEFINE_string("dataset", None, "By default the first run's, or emoji.")
_RESOLUTION = flags.DEFINE_integer("resolution", None, "By default the first run's, or 64.", 1)
_COUNT = flags.DEFINE_integer("count", 64, "Pictures a point.", 2)
_SEED = flags.DEFINE_integer("seed", 0, "Of the first picture; the next has the next.", 0)
_PROMPTS = flags.DEFINE_enum(
    "prompts", "even", ["even", "coco"], "Captions spread over the split, or as for COCO-30K."
)
_AMONG = flags.DEFINE_enum(
    "among", "all", ["all", "prompts"], "Top-1 among the captions of the whole set, or the prompts."
)
_SIDE = flags.DEFINE_integer(
    "side", None, "Pictures are compared at; by default 256 for COCO, else --resolution.", 1
)
_CLIP = flags.DEFINE_string("clip", None, "CLIP that scores; by default the first run's.")
_INCEPTION = flags.DEFINE_string("inception", None, "Inception's weights, for FID and KID.")
_REFERENCES = flags.DEFINE_list(
    "references", [], "NAME=FILE of tools/reference_statistics.py; by default the split in CLIP."
)
_FLOORS = flags.DEFINE_list("floors", [], "NAME=FILE: other real pictures for a reference's floor.")
_RESAMPLES = flags.DEFINE_integer("resamples", RESAMPLES, "Bootstraps, for the error bars.", 2)
_BASELINE = flags.DEFINE_string(
    "baseline",
    None,
    "One of --networks; others are compared with it picture by picture, where it "
    "was drawn with the same guidance: in as many steps if it was, else in the first number. A "
    "name that has trainings stands for each of them, for the networks of its number.",
)
_THREADS = flags.DEFINE_integer("threads", 2, "Threads of a bundle's interpreter.", 1)


def _data(runs: list[str]) -> DataConfig:
    given = {"dataset": _DATASET.value, "resolution": _RESOLUTION.value}
    data = load_unet_job(runs[0]).data if runs else DataConfig()
    return data.replace(**{key: value for key, value in given.items() if value})


def _prompts(data: DataConfig) -> list[Prompt]:
    examples = data.load(_SPLIT.value)
    if _PROMPTS.value == "coco":
        return coco_30k(examples.captions, count=_COUNT.value, seed=_SEED.value)
    rows, every = spread(len(examples), _COUNT.value), examples.canonical
    return [Prompt(every[row], _SEED.value + i) for i, row in enumerate(rows)]


def _judge(data: DataConfig, weights: str, prompts: list[Prompt], side: int) -> Judge:
    clip = load_trained(weights, "clip").model
    everything = _PROMPTS.value == "even" and _AMONG.value == "all"
    captions = Captions.of(
        clip,
        clip_tokenizer(clip.config.text),
        captions=[prompt.caption for prompt in prompts],
        others=data.load(ALL).canonical if everything else (),
    )
    references = {name: load_reference(path) for name, path in named_paths(_REFERENCES).items()}
    if not references:
        real = embed_all(captions.space, data.load(_SPLIT.value).images, side=side)
        references[_SPLIT.value] = Reference.of(real, space=captions.space, side=side)
    inception = inception_space(load_inception(_INCEPTION.value)) if _INCEPTION.value else None
    how = {"side": side, "inception": inception, "resamples": _RESAMPLES.value}
    return Judge(captions, references, **how)


def _measured(sweep: Sweep, name: str, how: NetworkFlag, grid: dict[str, list]) -> list[Result]:
    network = open_generator(how.path, threads=_THREADS.value)
    sweep.claim(name, network.identity + (f", {how.sampler}" if how.sampler else ""))
    fixed = network.scale(how.guidance)
    scales = grid["guidance"] if fixed is None else [fixed]
    counts = [how.steps] if how.steps else grid["steps"] or [network.steps]
    results = []
    for steps, scale in itertools.product(counts, scales):
        draw = network.make(steps=steps, guidance=scale, sampler=how.sampler)
        make = functools.partial(_pictures, draw)
        results.append(sweep.measure(Point(name, steps, scale), make))
        print(results[-1], flush=True)
    return results


def _compared(sweep: Sweep, results: list[Result]) -> list[Result]:
    """The results with their differences from the baseline's of the same scale.

    A baseline that has trainings is, for NAME@1, its own @1. Of several numbers of steps it is that
    of as many, or the first. What has its difference keeps it: a sweep asks after every network.
    """
    baseline = _BASELINE.value
    if baseline is None:
        return results
    bases = [result.point for result in results if result.point.is_of(baseline)]

    def compared(result: Result) -> Result:
        point = result.point
        near = [
            base
            for base in bases
            if base.guidance == point.guidance
            and (base.network == baseline or base.training == point.training)
        ]
        if result.difference or not near or point in bases:
            return result
        base = next((base for base in near if base.steps == point.steps), near[0])
        return dataclasses.replace(result, difference=sweep.difference(point, base))

    return [compared(result) for result in results]


def _pictures(draw: Draw, prompts: Sequence[Prompt]) -> np.ndarray:
    return finite_uint8(draw([p.caption for p in prompts], [p.seed for p in prompts]))


def _sweep() -> None:
    found, folder = networks(_NETWORKS), pathlib.Path(_OUTPUT.value)
    if _BASELINE.value is not None and _BASELINE.value not in {*found, *map(shared_name, found)}:
        raise ValueError(f"--baseline={_BASELINE.value} is none of --networks: {', '.join(found)}")
    grid = {"guidance": numbers(_GUIDANCE, float, 0), "steps": numbers(_STEPS, int, 1)}
    others = {name: load_reference(path) for name, path in named_paths(_FLOORS).items()}
    for how in found.values():  # The last of them is drawn with in hours.
        require_generator(how.path)
    runs = [how.path for how in found.values() if is_run(pathlib.Path(how.path))]
    data, weights = _data(runs), _CLIP.value or (load_unet_job(runs[0]).clip if runs else None)
    if not weights:
        raise ValueError("a bundle has no image tower to score pictures with: give --clip=FILE")
    prompts = _prompts(data)
    side = _SIDE.value or (COCO_SIDE if _PROMPTS.value == "coco" else data.resolution)
    judge = _judge(data, weights, prompts, side)
    floors = judge.floors(others, count=len(prompts))
    sweep, results = Sweep(folder, prompts, judge), []
    for name, how in found.items():
        results = _compared(sweep, [*results, *_measured(sweep, name, how, grid)])
        write_results(results, floors, folder)
    if _BASELINE.value:
        _tell_alone(results)


def _tell_alone(results: Sequence[Result]) -> None:
    """Says what there was nothing to compare with."""
    for p in (result.point for result in results if not result.difference):
        if not p.is_of(_BASELINE.value):
            print(
                f"{p.network}, {p.steps} steps, guidance {p.guidance:g} was not compared: "
                f"{_BASELINE.value} has no pictures with its guidance, or no training of its number"
            )


def main() -> None:
    _sweep()
    print(f"Tables and plots are in {_OUTPUT.value}")


if __name__ == "__main__":
    flags.mark_flags_as_required(["networks", "output"])
    run_main(main, after="the same command goes on")
