#!/usr/bin/env python3
"""How good is what a run has learnt?

    tools/evaluate.py --workdir=runs/emoji/autoencoder --split=holdout
    tools/evaluate.py --weights=tfsnap/presets/emoji-64/autoencoder.safetensors --dataset=emoji
    tools/evaluate.py --workdir=runs/demo/unet --split=validation+holdout --count=72
    tools/evaluate.py --workdir=runs/demo/unet --bundle=runs/demo/int8 --split=train

Of an autoencoder, the PSNR of pictures that it encoded and decoded. Of a CLIP, the share of
pictures whose own caption it finds among those of the split. Of a UNet, the same for pictures that
are generated, with Keras or from the same noise with a bundle: its CLIP looks for their captions
among those of all splits. How far they are from real pictures is for tools/sweep.py.
"""

import dataclasses
import pathlib
import sys
from typing import Any

from absl import app, flags

# Programs are run from anywhere: the repository's root holds `tools`.
sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))

from tfsnap.config import write_json
from tfsnap.data.clip_tokens import clip_tokenizer
from tfsnap.data.examples import ALL, spread
from tfsnap.diffusion.samplers import SAMPLERS
from tfsnap.metrics.reconstruction import Reconstruction, reconstruction
from tfsnap.metrics.retrieval import Retrieval, find_captions
from tfsnap.models.clip import Clip
from tfsnap.runtime.output import require_report
from tfsnap.training.jobs import UNetJob
from tfsnap.training.jobs.inputs import DataConfig
from tfsnap.training.jobs.runs import load_finished, load_job, require_finished
from tfsnap.training.pictures import to_float
from tfsnap.weights.archive import load_trained
from tools.generators import finite_uint8, of_bundle, of_model
from tools.program import run_main
from tools.unused_flags import given, refuse

_WORKDIR = flags.DEFINE_string("workdir", None, "Folder of a finished run.")
_WEIGHTS = flags.DEFINE_string("weights", None, "Instead: a file of an autoencoder or a CLIP.")
_DATASET = flags.DEFINE_string("dataset", None, "By default the run's; of a file, emoji.")
_RESOLUTION = flags.DEFINE_integer("resolution", None, "By default the run's; of a file, 64.", 1)
_BUNDLE = flags.DEFINE_string("bundle", None, "Of a UNet: generate with this bundle, not Keras.")
_SPLIT = flags.DEFINE_string("split", "validation", "Several are joined by a plus; or all.")
_COUNT = flags.DEFINE_integer(
    "count",
    None,
    "Number of pictures, spread evenly over the split; by default all real ones, or 64 generated "
    "ones, for which captions are taken again and again where there are fewer.",
    1,
)
_STEPS = flags.DEFINE_integer(
    "steps", None, "Steps of the sampler; by default those the UNet was distilled to, or 25.", 1
)
_SAMPLER = flags.DEFINE_enum(
    "sampler", None, list(SAMPLERS), "By default the one that the UNet was distilled for, or ddim."
)
_GUIDANCE = flags.DEFINE_float(
    "guidance", 4.0, "Guidance scale; it does not matter where guidance is baked in."
)
_SEED = flags.DEFINE_integer("seed", 0, "Seed of the first picture; the next has the next seed.", 0)
_THREADS = flags.DEFINE_integer("threads", 2, "Threads of the bundle's interpreter.", 1)
_JSON = flags.DEFINE_string("json", None, "Also write the result to this file.")


def _generated(data: DataConfig) -> tuple[dict[str, Any], Retrieval]:
    """Measures a UNet's run; also returns how pictures were made."""
    model = load_finished(_WORKDIR.value)
    baked = model.baked_guidance
    if model.clip is None:
        raise ValueError("the UNet has a text encoder alone; scores need CLIP's image tower")
    how = {
        "steps": _STEPS.value or model.steps,
        "sampler": _SAMPLER.value or model.sampler,
        "guidance": _GUIDANCE.value if baked is None else baked,
    }
    bundle = _BUNDLE.value
    if not bundle:
        refuse(given(_THREADS), "Keras", "give --bundle")
    network = of_bundle(bundle, threads=_THREADS.value) if bundle else of_model(model)
    every = data.load(_SPLIT.value).canonical
    captions = [every[row] for row in spread(len(every), _COUNT.value or 64)]
    seeds = range(_SEED.value, _SEED.value + len(captions))
    steps = how["steps"] + SAMPLERS[how["sampler"]].more
    evaluations = steps * model.evaluations(how["guidance"])
    return {**how, "evaluations": evaluations}, find_captions(
        model.clip,
        clip_tokenizer(model.clip.config.text),
        images=to_float(finite_uint8(network.make(**how)(captions, seeds))),
        captions=captions,
        candidates=data.load(ALL).canonical,
    )


def _real(weights: str, data: DataConfig) -> Reconstruction | Retrieval:
    """Measures an autoencoder or a CLIP."""
    model = load_trained(weights, "autoencoder", "clip").model
    generating = given(_BUNDLE, _THREADS, _STEPS, _SAMPLER, _GUIDANCE, _SEED)
    refuse(generating, f"{weights}, which holds {model.name}", "give a UNet's run as --workdir")
    examples = data.load(_SPLIT.value)
    rows = spread(len(examples), min(len(examples), _COUNT.value or len(examples)))
    images = to_float(examples.images[rows])
    if not isinstance(model, Clip):
        return reconstruction(model, images)
    every = examples.canonical
    captions = [every[row] for row in rows]
    return find_captions(
        model, clip_tokenizer(model.config.text), images=images, captions=captions, candidates=every
    )


def _evaluate() -> tuple[dict[str, Any], Reconstruction | Retrieval]:
    """Returns what was measured and the result."""
    job = load_job(_WORKDIR.value) if _WORKDIR.value else None
    given = {"dataset": _DATASET.value, "resolution": _RESOLUTION.value}
    data = (job.data if job else DataConfig()).replace(**{k: v for k, v in given.items() if v})
    if isinstance(job, UNetJob):
        about = {"what": _BUNDLE.value or "Keras float32", "split": _SPLIT.value}
        how, found = _generated(data)
        return {**about, **how}, found
    weights = _WEIGHTS.value or str(require_finished(_WORKDIR.value, job))
    return {"what": weights, "split": _SPLIT.value}, _real(weights, data)


def main() -> None:
    if bool(_WORKDIR.value) == bool(_WEIGHTS.value):
        raise app.UsageError("give one of --workdir and --weights")
    report = pathlib.Path(_JSON.value) if _JSON.value else None
    if report:  # Before what may take an hour.
        report.parent.mkdir(parents=True, exist_ok=True)
        require_report(report)
    about, result = _evaluate()
    print(f"{about['what']}, {about['split']}: {result}", flush=True)
    if report:
        write_json(report, {**about, **dataclasses.asdict(result)})


if __name__ == "__main__":
    run_main(main)
