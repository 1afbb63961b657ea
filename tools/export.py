#!/usr/bin/env python3
"""Exports a trained model as a bundle that phones run.

    tools/export.py --workdir=runs/demo/unet --output=runs/demo/fp16 --precision=fp16
    tools/export.py --workdir=runs/demo/unet --output=emoji.tfsnap --shape=32 --shape=32x48
    tools/export.py --weights=sd15 --output=sd15-int8 --precision=int8 --shape=512
    tools/export.py --workdir=runs/emoji --output=w8a8 --precision=int8_full --recipe=auto --psnr=45

The workdir is that of the UNet; its config names the autoencoder and CLIP. Weights are a folder
that tools/convert_weights.py wrote; they are read tensor by tensor. Each network is compared with
Keras on a real picture's inputs, and one that differs too much stops the export: docs/export.md.
"""

import os
import pathlib
import sys
from collections.abc import Mapping

from absl import app, flags

# TensorFlow's own allocator keeps all that it once had, and the interpreter could not use it.
os.environ.setdefault("TF_ONEDNN_USE_SYSTEM_ALLOCATOR", "true")
# Programs are run from anywhere: the repository's root holds `tools`.
sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))

from tfsnap.data.fetch import fetch_merges
from tfsnap.export.bundle_writer import BundleSpec, write_bundle
from tfsnap.export.chunks import MOST_CHUNKS
from tfsnap.export.converter import PRECISIONS
from tfsnap.export.quantisation.formats import FORMATS
from tfsnap.models.latent_diffusion import LatentDiffusion
from tfsnap.pretrained import GUIDANCE, open_pretrained
from tfsnap.runtime.archive import SUFFIX
from tfsnap.runtime.manifest import SAMPLERS, Manifest
from tfsnap.runtime.publish import require_outside
from tfsnap.runtime.settings import Sampler
from tfsnap.runtime.sizes import parse_size
from tfsnap.training.jobs.runs import load_finished
from tfsnap.weights.archive import load_trained
from tfsnap.weights.lazy import LazyTensor
from tfsnap.weights.store import in_memory
from tools.program import run_main
from tools.quantisation_flags import QuantisationFlags

_WORKDIR = flags.DEFINE_string("workdir", None, "Folder of a finished UNet run.")
_WEIGHTS = flags.DEFINE_string("weights", None, "Instead: folder of tools/convert_weights.py.")
_AUTOENCODER = flags.DEFINE_string(
    "autoencoder", None, "Weight file to take the decoder from, such as a distilled one's."
)
_OUTPUT = flags.DEFINE_string(
    "output",
    None,
    f"The bundle: one file if the name ends in {SUFFIX}, else a folder. An earlier one is "
    "replaced.",
)
_PRECISION = flags.DEFINE_enum(
    "precision", "fp16", [*PRECISIONS, *FORMATS], "How weights and activations are stored."
)
_QUANTISATION = QuantisationFlags()
_NAME = flags.DEFINE_string("name", "emoji", "Name of the model, for people.")
_PROMPT = flags.DEFINE_string(
    "prompt", "red apple, noto style", "What goldens and the parity check generate."
)
_STEPS = flags.DEFINE_integer(
    "steps",
    None,
    "The bundle's default; without it what the UNet was distilled for, or 25; 50 of --weights.",
    1,
)
_SAMPLER = flags.DEFINE_enum(
    "sampler",
    None,
    SAMPLERS,
    "The bundle's default; without it the UNet's, or that of --weights, or ddim where bundles have "
    "not that one.",
)
_GUIDANCE = flags.DEFINE_float(
    "guidance",
    None,
    f"The bundle's default scale; without it what is baked in, or 4; {GUIDANCE} of --weights.",
)
_MIN_PSNR = flags.DEFINE_float(
    "min_psnr", None, "Parity that each network must reach, in dB; by default the precision's."
)
_ENCODER = flags.DEFINE_bool(
    "encoder", False, "Add the encoder of pictures, for generating from a picture."
)
_SHAPES = flags.DEFINE_multi_string(
    "shape",
    [],
    "Height x width of the pictures, 512x768, or 512 for a square; by default the training's. May "
    "be repeated, the default first.",
)
_CHUNKS = flags.DEFINE_integer(
    "chunks", 1, "Files that the UNet is split in, to run in turn.", 1, MOST_CHUNKS
)
_GUIDANCE_BATCH = flags.DEFINE_bool(
    "guidance_batch", False, "Let the UNet take both contexts of guidance in one call."
)


def opened() -> tuple[LatentDiffusion, Mapping[str, LazyTensor] | None, Sampler]:
    """The model, its weights if they stay on disk, and how it is sampled by default."""
    if _WEIGHTS.value:
        model, values, sampler = open_pretrained(_WEIGHTS.value)
    else:
        model, values = load_finished(_WORKDIR.value), None
        sampler = Sampler(model.sampler, model.steps)
    if sampler.default not in SAMPLERS:
        sampler = sampler.replace(default="ddim")
    asked = {"default": _SAMPLER.value, "steps": _STEPS.value}
    sampler = sampler.replace(**{k: v for k, v in asked.items() if v is not None})
    return model, values, sampler.spelled_out()


def _guidance(model: LatentDiffusion) -> float | None:
    """The scale that is asked for; None leaves it to the writer of bundles."""
    if _GUIDANCE.value is None and _WEIGHTS.value and model.baked_guidance is None:
        return GUIDANCE
    return _GUIDANCE.value


def export() -> Manifest:
    """Writes the bundle."""
    sources = {flag.name: flag.value for flag in (_WORKDIR, _WEIGHTS, _AUTOENCODER)}
    require_outside(pathlib.Path(_OUTPUT.value), **sources)
    merges = fetch_merges()
    model, values, sampler = opened()
    if _AUTOENCODER.value:
        other = load_trained(_AUTOENCODER.value, "autoencoder").model
        model = model.with_decoder_of(other)
        values = values and {**values, **in_memory(other.variables)}
    spec = BundleSpec(
        name=_NAME.value,
        precision=_PRECISION.value,
        merges=merges,
        prompt=_PROMPT.value,
        sampler=sampler,
        guidance=_guidance(model),
        min_psnr_db=_MIN_PSNR.value,
        encoder=_ENCODER.value,
        shapes=tuple(map(parse_size, _SHAPES.value)),
        chunks=_CHUNKS.value,
        guidance_batch=_GUIDANCE_BATCH.value,
        quantisation=_QUANTISATION.spec(_PRECISION.value, _OUTPUT.value),
    )
    return write_bundle(model, _OUTPUT.value, spec, values)


def main() -> None:
    if not (_WORKDIR.value or _WEIGHTS.value):
        raise app.UsageError("--workdir or --weights is empty: name a folder")
    manifest = export()
    for name, component in manifest.components.items():
        size, psnr = component.size / 1e6, component.parity.psnr_db
        print(f"{name:12}  {size:7.2f} MB  PSNR {psnr:5.1f} dB against Keras")
    print(f"Bundle: {_OUTPUT.value}")


if __name__ == "__main__":
    flags.mark_flags_as_mutual_exclusive(["workdir", "weights"], required=True)
    flags.mark_flag_as_required("output")
    run_main(main)
