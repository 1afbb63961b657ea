"""Writes a bundle: converts, checks parity, makes goldens, and publishes all of it or nothing."""

import dataclasses
import datetime
import hashlib
import json
import os
import pathlib
import shutil
from collections.abc import Mapping

import numpy as np
import tensorflow as tf

from tfsnap import __version__
from tfsnap.export.converter import convert
from tfsnap.export.graphs import Graph, component_graphs
from tfsnap.export.keras_components import InTurn, image_shape_of, settings_of
from tfsnap.export.parity import THRESHOLDS_DB, check_parity
from tfsnap.export.publishing import published
from tfsnap.export.skeleton import skeleton_of
from tfsnap.models.latent_diffusion import LatentDiffusion
from tfsnap.runtime.bundle import Bundle
from tfsnap.runtime.components import Components
from tfsnap.runtime.interpreter import load
from tfsnap.runtime.manifest import (
    COMPONENTS,
    ENCODER,
    MANIFEST,
    Component,
    Goldens,
    Manifest,
    Parity,
    TokenizerFile,
)
from tfsnap.runtime.pipeline import Generated, Pipeline
from tfsnap.runtime.settings import Sampler, Settings
from tfsnap.tokenizer import Tokenizer
from tfsnap.weights.lazy import LazyTensor
from tfsnap.weights.store import save_tensors

_GOLDENS = "goldens.safetensors"
_GOLDEN_STEPS = 4
_GOLDEN_SEED = 0


@dataclasses.dataclass(frozen=True)
class BundleSpec:
    """What to write.

    Attributes:
      name: of the model, for people.
      precision: one of `tfsnap.export.converter.PRECISIONS`.
      merges: CLIP's BPE merges, which become part of the bundle.
      prompt: what the goldens and the parity check generate.
      sampler: default sampler and number of steps.
      guidance: default guidance scale; it does not matter where guidance is baked in.
      min_psnr_db: parity to reach; None means the precision's `THRESHOLDS_DB`.
      encoder: whether the bundle gets the encoder of pictures, to start from one.
    """

    name: str
    precision: str
    merges: pathlib.Path
    prompt: str
    sampler: Sampler = Sampler()
    guidance: float = 4.0
    min_psnr_db: float | None = None
    encoder: bool = False


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
      output: folder of the bundle; an earlier bundle there is replaced.
      spec: precision, defaults and names.
      values: what the networks' variables hold, by address, where they themselves hold nothing.

    Returns:
      The manifest.

    Raises:
      ParityError: a converted network differs too much from Keras.
      ExportError: there is something at `output` that is not a bundle, or it cannot be written.
      ValueError: the precision is unknown, or a network cannot be converted.
    """
    with published(pathlib.Path(output), MANIFEST) as folder:
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
        length = model.text_encoder.config.context_length
        self._folder = folder
        self._spec = spec
        self._settings: Settings = settings_of(model, guidance=spec.guidance, sampler=spec.sampler)
        pad = model.pad_token
        self._tokenizer = Tokenizer(spec.merges, context_length=length, pad_token=pad)
        graphs = component_graphs(model, values)
        names = (*COMPONENTS, ENCODER) if spec.encoder else COMPONENTS
        self._graphs = {name: graphs[name] for name in names}
        self._image_shape = image_shape_of(graphs)
        self._reference = InTurn(self._image_shape, lambda name: skeleton_of(graphs[name]).loaded())

    def write(self) -> Manifest:
        spec = self._spec
        self._record()
        components = {name: self._write_component(graph) for name, graph in self._graphs.items()}
        tokenizer = f"tokenizer/{spec.merges.name}"
        (self._folder / "tokenizer").mkdir()
        shutil.copyfile(spec.merges, self._folder / tokenizer)
        manifest = Manifest(
            name=spec.name,
            precision=spec.precision,
            components=components,
            tokenizer=TokenizerFile(
                file=tokenizer,
                sha256=_sha256(self._folder / tokenizer),
                context_length=self._tokenizer.context_length,
                pad_token=self._tokenizer.pad_token,
            ),
            goldens=self._write_goldens(),
            provenance={
                "tfsnap": __version__,
                "created": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
                "converter": f"tf.lite of TensorFlow {tf.__version__}",
                "parameters": {
                    name: sum(v.shape.num_elements() for v in graph.variables)
                    for name, graph in self._graphs.items()
                },
            },
            **vars(self._settings),
        )
        (self._folder / MANIFEST).write_text(json.dumps(manifest.to_dict(), indent=2) + "\n")
        Bundle.open(self._folder)  # What was written must be what a reader accepts.
        return manifest

    def _record(self) -> None:
        """Makes the calls that parity is checked on."""
        result = self._generate(self._reference)
        if self._spec.encoder:
            self._reference.encode_image(np.clip(result.image, -1.0, 1.0))
        self._reference.release()

    def _generate(self, components: Components) -> Generated:
        pipeline = Pipeline(components, tokenizer=self._tokenizer, settings=self._settings)
        (result,) = pipeline.generate([self._spec.prompt], steps=_GOLDEN_STEPS, seed=_GOLDEN_SEED)
        return result

    def _write_component(self, graph: Graph) -> Component:
        spec = self._spec
        file = self._file(graph.name)
        convert(graph, spec.precision).save(file)
        network = load(file, name=graph.name)
        threshold = spec.min_psnr_db
        if threshold is None:
            threshold = THRESHOLDS_DB[spec.precision]
        psnr = check_parity(
            graph.name,
            network,
            self._reference.calls[graph.name],
            threshold_db=threshold,
        )
        return Component(
            file=file.name,
            sha256=_sha256(file),
            bytes=file.stat().st_size,
            inputs=network.inputs,
            outputs=network.outputs,
            parity=Parity(psnr_db=round(psnr, 2), threshold_db=threshold),
        )

    def _file(self, name: str) -> pathlib.Path:
        return self._folder / f"{name}.tflite"

    def _write_goldens(self) -> Goldens:
        """One picture of the converted networks, for readers in other languages to repeat."""
        path = self._folder / _GOLDENS
        networks = InTurn(self._image_shape, lambda name: load(self._file(name), name=name))
        save_tensors(path, self._generate(networks)._asdict())
        return Goldens(
            file=_GOLDENS,
            sha256=_sha256(path),
            prompt=self._spec.prompt,
            seed=_GOLDEN_SEED,
            steps=_GOLDEN_STEPS,
            guidance=self._settings.guidance.default,
        )


def _sha256(path: pathlib.Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
