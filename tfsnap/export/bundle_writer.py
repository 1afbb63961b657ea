"""Writes a bundle: converts, checks parity, makes goldens, and publishes all of it or nothing."""

import dataclasses
import datetime
import json
import math
import os
import pathlib
import shutil
from collections.abc import Mapping, Sequence

import numpy as np
import tensorflow as tf

from tfsnap import __version__
from tfsnap.checksum import file_sha256
from tfsnap.diffusion.paths import SPACINGS
from tfsnap.export.component_files import component_files
from tfsnap.export.converter import convert
from tfsnap.export.flatbuffer import ConvertedModel
from tfsnap.export.keras_components import InTurn, settings_of
from tfsnap.export.parity import THRESHOLDS_DB, check_parity
from tfsnap.export.publishing import published
from tfsnap.export.quantisation.formats import FORMATS
from tfsnap.export.quantisation.quantiser import QuantisationSpec, Quantiser
from tfsnap.export.variants import Variant, conversions_of, variants_of
from tfsnap.models.latent_diffusion import LatentDiffusion
from tfsnap.runtime.bundle import Bundle
from tfsnap.runtime.components import AnyNetwork, Components, load_files
from tfsnap.runtime.interpreter import find_backend
from tfsnap.runtime.lending import lend
from tfsnap.runtime.manifest import (
    COMPONENTS,
    ENCODER,
    MANIFEST,
    SAMPLERS,
    Chunk,
    Component,
    Goldens,
    Manifest,
    Parity,
    TokenizerFile,
    least_version,
)
from tfsnap.runtime.pipeline import Generated, Pipeline
from tfsnap.runtime.request import Request, plan
from tfsnap.runtime.settings import Sampler, Settings
from tfsnap.runtime.storage import Folder
from tfsnap.tokenizer import VOCAB_SIZE, Tokenizer, write_merges
from tfsnap.weights.lazy import LazyTensor
from tfsnap.weights.store import save_tensors

_GOLDENS = "goldens.safetensors"
_GOLDEN_STEPS = 4
_GOLDEN_SEED = 0
_GUIDANCE = 4.0  # Where nothing else is asked for.
_EQUAL_DB = 999.0  # Of networks that are equal to Keras': JSON has no infinity.


@dataclasses.dataclass(frozen=True)
class BundleSpec:
    """What to write.

    Attributes:
      name: of the model, for people.
      precision: one of `tfsnap.export.converter.PRECISIONS` or of
        `tfsnap.export.quantisation.formats.FORMATS`.
      merges: CLIP's BPE merges, which become part of the bundle.
      prompt: what the goldens and the parity check generate.
      sampler: default sampler and number of steps.
      guidance: default guidance scale; None means that which is baked in, or else 4.
      min_psnr_db: parity to reach; None means the goal of `quantisation`, or the precision's
        `THRESHOLDS_DB`.
      encoder: whether the bundle gets the encoder of pictures, to start from one.
      shapes: heights and widths of the pictures that it draws, in pixels, the default first; none
        means the model's own.
      chunks: in how many files the UNet is split.
      guidance_batch: whether the UNet takes the contexts of guidance in one call.
      quantisation: how activations are quantised, for a precision of `FORMATS` and no other.

    Raises:
      ValueError: `quantisation` does not belong to the precision, `min_psnr_db` is no number or
        above its goal, or no reader of bundles samples so.
    """

    name: str
    precision: str
    merges: pathlib.Path
    prompt: str
    sampler: Sampler = Sampler()
    guidance: float | None = None
    min_psnr_db: float | None = None
    encoder: bool = False
    shapes: tuple[tuple[int, int], ...] = ()
    chunks: int = 1
    guidance_batch: bool = False
    quantisation: QuantisationSpec | None = None

    def __post_init__(self):
        if (self.precision in FORMATS) != (self.quantisation is not None):
            raise ValueError(
                f"precision is {self.precision!r}; {' and '.join(FORMATS)} need a "
                "QuantisationSpec, and others must not have one"
            )
        if self.min_psnr_db is not None and not math.isfinite(self.min_psnr_db):
            raise ValueError(f"min_psnr is {self.min_psnr_db}; it must be a finite number of dB")
        goal = self._goal_db
        if goal is not None and self.threshold_db > goal:
            raise ValueError(
                f"min_psnr is {self.min_psnr_db:g}, above psnr={goal:g}, with which layers are "
                "chosen: raise psnr, or leave min_psnr out"
            )
        for field, known in {"default": SAMPLERS, "spacing": SPACINGS}.items():
            value = getattr(self.sampler, field)
            if value not in known:
                raise ValueError(
                    f"sampler.{field} is {value!r}; in a bundle it must be one of "
                    f"{', '.join(known)}"
                )

    @property
    def threshold_db(self) -> float:
        """The parity that every network has to reach."""
        if self.min_psnr_db is not None:
            return self.min_psnr_db
        return THRESHOLDS_DB[self.precision] if self._goal_db is None else self._goal_db

    @property
    def _goal_db(self) -> float | None:
        return self.quantisation.psnr_db if self.quantisation else None


def write_bundle(
    model: LatentDiffusion,
    output: str | os.PathLike,
    spec: BundleSpec,
    values: Mapping[str, LazyTensor] | None = None,
) -> Manifest:
    """Exports a model.

    Everything is made in a temporary folder beside `output`, which is renamed at the end: a failure
    leaves an earlier bundle at `output` as it was. The networks are converted and compared with
    Keras one after another, and only one is in memory.

    Args:
      model: the trained networks.
      output: the bundle, one file if the name ends in `tfsnap.runtime.archive.SUFFIX` and else a
        folder; an earlier bundle there is replaced.
      spec: precision, defaults and names.
      values: what the networks' variables hold, by address, where they themselves hold nothing.

    Returns:
      The manifest.

    Raises:
      ParityError: a converted network differs too much from Keras.
      ExportError: there is something at `output` that is not a bundle, or it cannot be written.
      ValueError: the precision is unknown, the model cannot be exported as `spec` says, or its
        default steps are more than the sampler has.
    """
    with published(pathlib.Path(output)) as folder:
        return _Writer(model, folder, spec, values).write()


class _Writer:
    """Fills one folder."""

    def __init__(
        self,
        model: LatentDiffusion,
        folder: pathlib.Path,
        spec: BundleSpec,
        values: Mapping[str, LazyTensor] | None,
    ):
        self._folder = folder
        self._spec = spec
        shape = spec.shapes[0] if spec.shapes else model.resolution
        default = dataclasses.replace(model, resolution=shape)
        self._settings: Settings = settings_of(
            default, guidance=_guidance(model, spec), sampler=spec.sampler
        )
        plan(Request(), self._settings)  # What readers do by default must be possible.
        self._tokenizer = Tokenizer(
            spec.merges,
            context_length=model.text_encoder.config.context_length,
            pad_token=model.pad_token,
            vocab_size=model.text_encoder.config.vocab_size,
        )
        guidance = self._settings.guidance
        if spec.guidance_batch and (guidance.baked_in or guidance.width is not None):
            raise ValueError(
                "this UNet has guidance in its one evaluation a step: leave out --guidance_batch"
            )
        contexts = 2 if spec.guidance_batch else 1
        self._variants = variants_of(model, spec.shapes, contexts=contexts, values=values)
        self._names = (*COMPONENTS, ENCODER) if spec.encoder else COMPONENTS
        self._quantiser = None
        if spec.quantisation:
            parts = spec.precision, spec.quantisation, self._variants, folder
            self._quantiser = Quantiser(*parts)

    def write(self) -> Manifest:
        spec = self._spec
        if self._quantiser:  # First, as a file of other networks stops the export.
            self._quantiser.calibrate(self._names, self._draw_calibration)
        self._record()
        components = {name: self._write_component(name) for name in self._names}
        sizes = tuple(variant.size for variant in self._variants)
        sizes = sizes if len(sizes) > 1 else None
        tokenizer = self._write_tokenizer()
        manifest = Manifest(
            format_version=least_version(components, sizes, tokenizer),
            name=spec.name,
            sizes=sizes,
            precision=spec.precision,
            components=components,
            tokenizer=tokenizer,
            goldens=self._write_goldens(components),
            provenance=self._provenance(),
            **vars(self._settings),
        )
        text = json.dumps(manifest.to_dict(), indent=2, allow_nan=False)
        (self._folder / MANIFEST).write_text(text + "\n")
        Bundle.open(self._folder)  # What was written must be what a reader accepts.
        return manifest

    def _write_tokenizer(self) -> TokenizerFile:
        tokenizer, name = self._tokenizer, self._spec.merges.name
        path = self._folder / "tokenizer" / name
        path.parent.mkdir()
        whole = tokenizer.vocab_size == VOCAB_SIZE
        if whole:
            shutil.copyfile(self._spec.merges, path)
        else:  # A megabyte less.
            write_merges(path, self._spec.merges, tokenizer.vocab_size)
        return TokenizerFile(
            file=f"tokenizer/{name}",
            sha256=file_sha256(path),
            context_length=tokenizer.context_length,
            pad_token=tokenizer.pad_token,
            vocab_size=None if whole else tokenizer.vocab_size,
        )

    def _record(self) -> None:
        """Makes the calls that parity is checked on."""
        for variant in self._variants:
            prompt = self._spec.prompt
            self._draw(variant.reference, variant, prompt, steps=_GOLDEN_STEPS, seed=_GOLDEN_SEED)
            variant.reference.release()

    def _draw_calibration(self, networks: InTurn, variant: Variant) -> None:
        """Makes the calls that ranges of activations are recorded on."""
        quantisation = self._spec.quantisation
        for seed, prompt in enumerate(quantisation.prompts, start=_GOLDEN_SEED + 1):
            self._draw(networks, variant, prompt, steps=quantisation.steps, seed=seed)

    def _draw(
        self, components: Components, variant: Variant, prompt: str, *, steps: int, seed: int
    ) -> Generated:
        """A picture, which is encoded again if there is an encoder."""
        pipeline = self._pipeline(components, variant)
        (result,) = pipeline.generate([prompt], steps=steps, seed=seed)
        if self._spec.encoder:
            components.encode_image(np.clip(result.image, -1.0, 1.0))
        return result

    def _pipeline(self, components: Components, variant: Variant) -> Pipeline:
        latent = dataclasses.replace(self._settings.latent, shape=variant.size.latent)
        settings = dataclasses.replace(self._settings, latent=latent)
        return Pipeline(components, tokenizer=self._tokenizer, settings=settings)

    def _provenance(self) -> dict[str, object]:
        """What made the bundle and judged it, for people."""
        backend, quantisation = find_backend(None), self._spec.quantisation
        calibrated = {}
        if quantisation is not None:
            calibrated["ranges"] = quantisation.ranges
            calibrated["kept_in_float16"] = self._quantiser.kept
        return {
            "tfsnap": __version__,
            "created": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
            "converter": f"tf.lite of TensorFlow {tf.__version__}",
            "interpreter": f"{backend.name} {backend.version}",
            "parameters": {
                name: sum(v.shape.num_elements() for v in graph.variables)
                for name, graph in self._variants[0].graphs.items()
                if name in self._names
            },
            **calibrated,
        }

    def _convert(self, name: str, variant: Variant) -> ConvertedModel:
        if self._quantiser:
            return self._quantiser.convert(variant, name)
        return convert(variant.graphs[name], self._spec.precision)

    def _write_component(self, name: str) -> Component:
        """Writes one component for all sizes."""
        spec = self._spec
        variants = conversions_of(self._variants, name)
        models = {v.signature: self._convert(name, v) for v in variants}
        chunks = spec.chunks if name == "unet" else 1
        files = self._write_files(name, models, chunks)
        threshold = spec.threshold_db
        reached = []
        for variant in reversed(variants):  # The default last: its network tells the contract.
            # Of the files, as a reader loads them: merging and splitting are checked as well.
            network = self._load(name, files, variant)
            calls = variant.reference.calls[name]
            reached.append(check_parity(name, network, calls, threshold_db=threshold))
        psnr = min(*reached, _EQUAL_DB)
        alone = chunks == 1
        return Component(
            **(vars(files[0]) if alone else {"chunks": tuple(files)}),
            inputs=network.inputs,
            outputs=network.outputs,
            parity=Parity(psnr_db=round(psnr, 2), threshold_db=threshold),
        )

    def _write_files(
        self, name: str, models: dict[str, ConvertedModel], chunks: int
    ) -> list[Chunk]:
        paths = [self._folder / f"{name}.tflite"]
        if chunks > 1:
            paths = [self._folder / f"{name}.{i}.tflite" for i in range(chunks)]
        for path, model in zip(paths, component_files(models, chunks=chunks), strict=True):
            model.save(path)
        return [Chunk(path.name, file_sha256(path), path.stat().st_size) for path in paths]

    def _load(self, name: str, files: Sequence[Chunk], variant: Variant) -> AnyNetwork:
        several = len(conversions_of(self._variants, name)) > 1
        storage, signature = Folder(self._folder), variant.signature
        return load_files(
            lambda file: lend(storage, file, signature=signature if several else None),
            [part.file for part in files],
            name=name,
            outputs=list(variant.graphs[name].concrete().structured_outputs),
            signature=signature,
        )

    def _write_goldens(self, components: dict[str, Component]) -> Goldens:
        """One picture of the converted networks, for readers in other languages to repeat."""
        path, default = self._folder / _GOLDENS, self._variants[0]
        networks = InTurn(
            default.graphs, lambda name: self._load(name, components[name].files, default)
        )
        pipeline = self._pipeline(networks, default)
        (result,) = pipeline.generate([self._spec.prompt], steps=_GOLDEN_STEPS, seed=_GOLDEN_SEED)
        save_tensors(path, result._asdict())
        return Goldens(
            file=_GOLDENS,
            sha256=file_sha256(path),
            prompt=self._spec.prompt,
            seed=_GOLDEN_SEED,
            steps=_GOLDEN_STEPS,
            guidance=self._settings.guidance.default,
        )


def _guidance(model: LatentDiffusion, spec: BundleSpec) -> float:
    asked, baked_in = spec.guidance, model.baked_guidance
    if asked is not None and baked_in not in (None, asked):
        raise ValueError(
            f"--guidance is {asked:g}, and {baked_in:g} is baked into this UNet: leave --guidance "
            "out"
        )
    return _GUIDANCE if asked is None else asked
