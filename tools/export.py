"""Exports a trained model as a bundle that phones run.

    tools/export.py --workdir=runs/demo/unet --output=runs/demo/fp16 --precision=fp16
    tools/export.py --workdir=runs/demo/unet --output=emoji.tfsnap --shape=64x64 --shape=64x96

The workdir is that of the UNet; its config names the autoencoder and CLIP. Each network is compared
with Keras on a real picture's inputs, and one that differs too much stops the export.
"""

import sys

from absl import app, flags, logging

from tfsnap.data.fetch import FetchError, fetch_merges
from tfsnap.export.bundle_writer import BundleSpec, write_bundle
from tfsnap.export.converter import PRECISIONS
from tfsnap.runtime.errors import TfsnapError
from tfsnap.runtime.manifest import SAMPLERS
from tfsnap.runtime.sizes import parse_size
from tfsnap.training.jobs.runs import load_finished
from tfsnap.weights.archive import load_trained
from tfsnap.weights.store import WeightFileError, WeightMismatchError

_WORKDIR = flags.DEFINE_string("workdir", None, "Folder of a finished UNet run.")
_AUTOENCODER = flags.DEFINE_string(
    "autoencoder", None, "Weight file to take the decoder from, such as a distilled one's."
)
_OUTPUT = flags.DEFINE_string(
    "output",
    None,
    "The bundle: one file if the name ends in .tfsnap, else a folder. It is replaced.",
)
_PRECISION = flags.DEFINE_enum("precision", "fp16", PRECISIONS, "How weights are stored.")
_NAME = flags.DEFINE_string("name", "emoji", "Name of the model, for people.")
_PROMPT = flags.DEFINE_string(
    "prompt", "red apple, noto style", "What goldens and the parity check generate."
)
_STEPS = flags.DEFINE_integer(
    "steps", None, "The bundle's default; without it, those the UNet was distilled to, or 25.", 1
)
_SAMPLER = flags.DEFINE_enum(
    "sampler",
    None,
    SAMPLERS,
    "The bundle's default; without it, the one that the UNet was distilled for, or ddim.",
)
_GUIDANCE = flags.DEFINE_float("guidance", 4.0, "The bundle's default guidance scale.")
_MIN_PSNR = flags.DEFINE_float(
    "min_psnr", None, "Parity that each network must reach, in dB; by default the precision's."
)
_ENCODER = flags.DEFINE_bool(
    "encoder", False, "Add the encoder of pictures, for generating from a picture."
)
_SHAPES = flags.DEFINE_multi_string(
    "shape", [], "Height x width of the pictures, as 512x768; may be repeated, the default first."
)
_CHUNKS = flags.DEFINE_integer("chunks", 1, "Files that the UNet is split in, to run in turn.", 1)
_GUIDANCE_BATCH = flags.DEFINE_bool(
    "guidance_batch", False, "Let the UNet take both contexts of guidance in one call."
)


def main(argv: list[str]) -> None:
    if len(argv) > 1:
        raise app.UsageError(f"unexpected argument {argv[1]!r}")
    logging.set_verbosity(logging.WARNING)  # TFDS reports every file it reads.
    try:
        spec = BundleSpec(
            name=_NAME.value,
            precision=_PRECISION.value,
            merges=fetch_merges(),
            prompt=_PROMPT.value,
            sampler=_SAMPLER.value,
            steps=_STEPS.value,
            guidance=_GUIDANCE.value,
            min_psnr_db=_MIN_PSNR.value,
            encoder=_ENCODER.value,
            shapes=tuple(parse_size(shape) for shape in _SHAPES.value),
            chunks=_CHUNKS.value,
            guidance_batch=_GUIDANCE_BATCH.value,
        )
        model = load_finished(_WORKDIR.value)
        if _AUTOENCODER.value:
            model = model.with_decoder_of(load_trained(_AUTOENCODER.value, "autoencoder").model)
        manifest = write_bundle(model, _OUTPUT.value, spec)
    except (
        FetchError,
        OSError,
        TfsnapError,
        ValueError,
        WeightFileError,
        WeightMismatchError,
    ) as error:
        sys.exit(f"export: {error}")
    for name, component in manifest.components.items():
        size, psnr = component.size / 1e6, component.parity.psnr_db
        print(f"{name:12}  {size:7.2f} MB  PSNR {psnr:5.1f} dB against Keras")
    print(f"Bundle: {_OUTPUT.value}")


if __name__ == "__main__":
    flags.mark_flags_as_required(["workdir", "output"])
    app.run(main)
