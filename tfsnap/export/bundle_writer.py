"""Writes a bundle: converts, checks parity, makes goldens, and publishes all of it or nothing."""

import dataclasses
import datetime
import hashlib
import json
import os
import pathlib
import shutil
import tempfile

import numpy as np
import tensorflow as tf

from tfsnap import __version__
from tfsnap.export.component_files import component_files
from tfsnap.export.converter import convert
from tfsnap.export.keras_components import settings_of
from tfsnap.export.parity import THRESHOLDS_DB, check_parity
from tfsnap.export.variants import Variant, conversions_of, variants_of
from tfsnap.models.latent_diffusion import LatentDiffusion
from tfsnap.runtime.bundle import Bundle
from tfsnap.runtime.components import AnyNetwork, Components, TFLiteComponents, load_files
from tfsnap.runtime.lending import lend
from tfsnap.runtime.manifest import (
    COMPONENTS,
    ENCODER,
    MANIFEST,
    Chunk,
    Component,
    Goldens,
    Manifest,
    Parity,
    TokenizerFile,
    least_version,
)
from tfsnap.runtime.pipeline import Generated, Pipeline
from tfsnap.runtime.publish import publish, require_replaceable
from tfsnap.runtime.settings import Sampler, Settings
from tfsnap.runtime.storage import Folder
from tfsnap.tokenizer import Tokenizer
from tfsnap.weights.store import save_tensors

_GOLDENS = "goldens.safetensors"
_GOLDEN_STEPS = 4
_GOLDEN_SEED = 0


@dataclasses.dataclass(frozen=True)
class BundleSpec:
    """What to write.

    Attributes:
      name: of the model, for people.
      precision: "fp16" or "int8".
      merges: CLIP's BPE merges, which become part of the bundle.
      prompt: what the goldens and the parity check generate.
      sampler: default sampler; None is the model's.
      steps: default number of steps; None is the model's.
      guidance: default guidance scale; it does not matter where guidance is baked in.
      min_psnr_db: parity to reach; None means the precision's `THRESHOLDS_DB`.
      encoder: whether the bundle gets the encoder of pictures, to start from one.
      shapes: heights and widths of the pictures that it draws, in pixels, the default first; none
        means the model's own.
      chunks: in how many files the UNet is split.
      guidance_batch: whether the UNet takes the contexts of guidance in one call.
    """

    name: str
    precision: str
    merges: pathlib.Path
    prompt: str
    sampler: str | None = None
    steps: int | None = None
    guidance: float = 4.0
    min_psnr_db: float | None = None
    encoder: bool = False
    shapes: tuple[tuple[int, int], ...] = ()
    chunks: int = 1
    guidance_batch: bool = False


def write_bundle(model: LatentDiffusion, output: str | os.PathLike, spec: BundleSpec) -> Manifest:
    """Exports a model.

    Everything is made in a temporary folder beside `output`, which is renamed at the end: a failure
    leaves an earlier bundle at `output` as it was.

    Args:
      model: the trained networks.
      output: the bundle, one file if the name ends in `tfsnap.runtime.archive.SUFFIX` and else a
        folder; an earlier bundle there is replaced.
      spec: precision, defaults and names.

    Returns:
      The manifest.

    Raises:
      ParityError: a converted network differs too much from Keras.
      FileExistsError: there is something at `output` that is not a bundle.
      ValueError: the precision is unknown, or the model cannot be exported as `spec` says.
    """
    output = pathlib.Path(output)
    require_replaceable(output)
    output.parent.mkdir(parents=True, exist_ok=True)
    folder = pathlib.Path(tempfile.mkdtemp(dir=output.parent, prefix=f".{output.name}."))
    try:
        folder.chmod(0o755)
        manifest = _Writer(model, folder, spec).write()
        publish(folder, output)
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise
    return manifest


class _Writer:
    """Fills one folder."""

    def __init__(self, model: LatentDiffusion, folder: pathlib.Path, spec: BundleSpec):
        length = model.text_encoder.config.context_length
        self._folder = folder
        self._spec = spec
        self._model = model
        sampler = Sampler(spec.sampler or model.sampler, spec.steps or model.steps)
        shape = spec.shapes[0] if spec.shapes else model.resolution
        default = dataclasses.replace(model, resolution=shape)
        self._settings: Settings = settings_of(default, guidance=spec.guidance, sampler=sampler)
        pad = model.pad_token
        self._tokenizer = Tokenizer(spec.merges, context_length=length, pad_token=pad)
        guidance = self._settings.guidance
        if spec.guidance_batch and (guidance.baked_in or guidance.width is not None):
            raise ValueError(
                "this UNet has guidance in its one evaluation a step: leave out --guidance_batch"
            )
        contexts = 2 if spec.guidance_batch else 1
        self._variants = variants_of(model, spec.shapes, contexts=contexts)
        self._names = (*COMPONENTS, ENCODER) if spec.encoder else COMPONENTS

    def write(self) -> Manifest:
        spec = self._spec
        self._record()
        networks, components = {}, {}
        for name in self._names:
            networks[name], components[name] = self._write_component(name)
        sizes = tuple(variant.size for variant in self._variants)
        sizes = sizes if len(sizes) > 1 else None
        tokenizer = f"tokenizer/{spec.merges.name}"
        (self._folder / "tokenizer").mkdir()
        shutil.copyfile(spec.merges, self._folder / tokenizer)
        manifest = Manifest(
            format_version=least_version(components, sizes),
            name=spec.name,
            sizes=sizes,
            precision=spec.precision,
            components=components,
            tokenizer=TokenizerFile(
                file=tokenizer,
                sha256=_sha256(self._folder / tokenizer),
                context_length=self._tokenizer.context_length,
                pad_token=self._tokenizer.pad_token,
            ),
            goldens=self._write_goldens({name: networks[name] for name in COMPONENTS}),
            provenance={
                "tfsnap": __version__,
                "created": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
                "converter": f"tf.lite of TensorFlow {tf.__version__}",
                "parameters": {
                    name: sum(v.shape.num_elements() for v in graph.weights)
                    for name, graph in self._variants[0].graphs.items()
                    if name in self._names
                },
            },
            **vars(self._settings),
        )
        (self._folder / MANIFEST).write_text(json.dumps(manifest.to_dict(), indent=2) + "\n")
        Bundle.open(self._folder)  # What was written must be what a reader accepts.
        return manifest

    def _record(self) -> None:
        """Makes the calls that parity is checked on."""
        for variant in self._variants:
            result = self._generate(variant.reference, variant)
            if self._spec.encoder:
                variant.reference.encode_image(np.clip(result.image, -1.0, 1.0))

    def _generate(self, components: Components, variant: Variant) -> Generated:
        latent = dataclasses.replace(self._settings.latent, shape=variant.size.latent)
        settings = dataclasses.replace(self._settings, latent=latent)
        pipeline = Pipeline(components, tokenizer=self._tokenizer, settings=settings)
        (result,) = pipeline.generate([self._spec.prompt], steps=_GOLDEN_STEPS, seed=_GOLDEN_SEED)
        return result

    def _write_component(self, name: str) -> tuple[AnyNetwork, Component]:
        """Writes one component for all sizes; returns its network at the default one."""
        spec = self._spec
        variants = conversions_of(self._variants, name)
        conversions = {v.signature: convert(v.graphs[name], spec.precision) for v in variants}
        chunks = spec.chunks if name == "unet" else 1
        files = self._write_files(name, component_files(conversions, chunks=chunks))
        threshold = spec.min_psnr_db
        if threshold is None:
            threshold = THRESHOLDS_DB[spec.precision]
        # Of the files, as a reader loads them: merging and splitting are checked as well.
        psnr = min(
            check_parity(
                name, self._load(name, files, v), v.reference.calls[name], threshold_db=threshold
            )
            for v in variants
        )
        network = self._load(name, files, variants[0])
        alone = chunks == 1
        return network, Component(
            **(vars(files[0]) if alone else {"chunks": tuple(files)}),
            inputs=network.inputs,
            outputs=network.outputs,
            parity=Parity(psnr_db=round(psnr, 2), threshold_db=threshold),
        )

    def _write_files(self, name: str, contents: list[bytes]) -> list[Chunk]:
        files = []
        for i, content in enumerate(contents):
            file = f"{name}.tflite" if len(contents) == 1 else f"{name}.{i}.tflite"
            (self._folder / file).write_bytes(content)
            files.append(Chunk(file, hashlib.sha256(content).hexdigest(), len(content)))
        return files

    def _load(self, name: str, files: list[Chunk], variant: Variant) -> AnyNetwork:
        several = len(conversions_of(self._variants, name)) > 1
        storage, signature = Folder(self._folder), variant.signature
        return load_files(
            lambda file: lend(storage, file, signature=signature if several else None),
            [part.file for part in files],
            name=name,
            outputs=list(variant.graphs[name].concrete().structured_outputs),
            signature=signature,
        )

    def _write_goldens(self, networks: dict[str, AnyNetwork]) -> Goldens:
        """One picture of the converted networks, for readers in other languages to repeat."""
        path = self._folder / _GOLDENS
        save_tensors(
            path, self._generate(TFLiteComponents(**networks), self._variants[0])._asdict()
        )
        return Goldens(
            file=_GOLDENS,
            sha256=_sha256(path),
            prompt=self._spec.prompt,
            seed=_GOLDEN_SEED,
            steps=_GOLDEN_STEPS,
            guidance=self._settings.guidance.default,
        )


def _sha256(path: pathlib.Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()
