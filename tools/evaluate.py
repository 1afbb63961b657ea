"""Do generated pictures show what their captions say?

    tools/evaluate.py --workdir=runs/demo/unet --split=train --count=64
    tools/evaluate.py --workdir=runs/demo/unet --bundle=runs/demo/int8 --split=validation+holdout

Generates a picture for each caption with Keras, or with a bundle, from the same noise; the run's
CLIP then looks for the picture's own caption among those of all pictures of all splits.
"""

import dataclasses
import json
import pathlib
import sys

import numpy as np
from absl import app, flags, logging

from tfsnap.data.examples import ALL
from tfsnap.data.fetch import FetchError, fetch_merges
from tfsnap.metrics.retrieval import embed_captions, embed_images, retrieval
from tfsnap.models.latent_diffusion import LatentDiffusion
from tfsnap.runtime.errors import TfsnapError
from tfsnap.runtime.philox import normal
from tfsnap.runtime.text_to_image import TextToImage
from tfsnap.tokenizer import Tokenizer
from tfsnap.training.jobs.runs import load_finished, load_unet_job
from tfsnap.training.sampling import sample_pictures
from tfsnap.weights.store import WeightFileError, WeightMismatchError

_WORKDIR = flags.DEFINE_string("workdir", None, "Folder of a finished UNet run.")
_BUNDLE = flags.DEFINE_string("bundle", None, "Generate with this bundle instead of Keras.")
_SPLIT = flags.DEFINE_string("split", "train", "Whose captions; several are joined by a plus.")
_COUNT = flags.DEFINE_integer(
    "count",
    64,
    "Number of pictures: captions spread evenly over the split, or all of them again and again.",
    1,
)
_STEPS = flags.DEFINE_integer("steps", 25, "Steps of the sampler.", 1)
_GUIDANCE = flags.DEFINE_float("guidance", 4.0, "Guidance scale.")
_SEED = flags.DEFINE_integer("seed", 0, "Seed of the first picture; the next has the next seed.", 0)
_THREADS = flags.DEFINE_integer("threads", 2, "Threads of the bundle's interpreter.", 1)
_JSON = flags.DEFINE_string("json", None, "Also write the result to this file.")


def _with_keras(model: LatentDiffusion, tokenizer: Tokenizer, captions: list[str]) -> np.ndarray:
    shape = (1, *model.latent_shape)
    return sample_pictures(
        model,
        tokens=tokenizer(captions),
        null_tokens=tokenizer([""])[0],
        steps=_STEPS.value,
        guidance=_GUIDANCE.value,
        noise=np.concatenate([normal(_SEED.value + i, shape) for i in range(len(captions))]),
    )


def _with_bundle(captions: list[str]) -> np.ndarray:
    pipeline = TextToImage(_BUNDLE.value, threads=_THREADS.value)
    results = [
        pipeline.generate(
            [caption], steps=_STEPS.value, guidance=_GUIDANCE.value, seed=_SEED.value + i
        )[0]
        for i, caption in enumerate(captions)
    ]
    return np.concatenate([result.image for result in results])


def _rows(available: int, count: int) -> np.ndarray:
    """Which captions, int [count]: spread evenly, or each of them about equally often."""
    if count > available:
        return np.arange(count) % available
    return np.linspace(0, available - 1, count).astype(int)


def _evaluate() -> dict:
    model, job = load_finished(_WORKDIR.value), load_unet_job(_WORKDIR.value)
    if model.clip is None:
        raise ValueError(f"{job.clip} is a text encoder alone; scores need CLIP's image tower")
    data = job.data
    tokenizer = Tokenizer(fetch_merges(), context_length=model.text_encoder.config.context_length)
    everything = data.load(ALL)
    candidates = [variants[0] for variants in everything.captions]
    every = [variants[0] for variants in data.load(_SPLIT.value).captions]
    captions = [every[row] for row in _rows(len(every), _COUNT.value)]
    images = _with_bundle(captions) if _BUNDLE.value else _with_keras(model, tokenizer, captions)
    result = retrieval(
        images=embed_images(model.clip, np.clip(images, -1.0, 1.0)),
        candidates=embed_captions(model.clip, tokenizer(candidates)),
        targets=[candidates.index(caption) for caption in captions],
    )
    return {
        "what": _BUNDLE.value or "Keras float32",
        "split": _SPLIT.value,
        "steps": _STEPS.value,
        "guidance": _GUIDANCE.value,
        **dataclasses.asdict(result),
    }


def main(argv: list[str]) -> None:
    if len(argv) > 1:
        raise app.UsageError(f"unexpected argument {argv[1]!r}")
    logging.set_verbosity(logging.WARNING)  # TFDS reports every file it reads.
    try:
        report = _evaluate()
    except (
        FetchError,
        OSError,
        TfsnapError,
        ValueError,
        WeightFileError,
        WeightMismatchError,
    ) as error:
        sys.exit(f"evaluate: {error}")
    print(
        f"{report['what']}: top-1 {report['top1']:.1%} of {report['count']} pictures for "
        f"{report['split']} captions (chance {report['chance']:.2%}), "
        f"CLIP score {report['clip_score']:.3f}"
    )
    if _JSON.value:
        pathlib.Path(_JSON.value).write_text(json.dumps(report, indent=2) + "\n")


if __name__ == "__main__":
    flags.mark_flags_as_required(["workdir"])
    app.run(main)
