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
from tfsnap.export.converter import convert
from tfsnap.export.graphs import Graph, component_graphs
from tfsnap.export.keras_components import RecordingComponents, settings_of
from tfsnap.export.parity import THRESHOLDS_DB, check_parity
from tfsnap.models.latent_diffusion import LatentDiffusion
from tfsnap.runtime.bundle import Bundle
from tfsnap.runtime.components import Components, TFLiteComponents
from tfsnap.runtime.interpreter import Network, load
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
      sampler: default sampler.
      steps: default number of steps; None is the model's.
      guidance: default guidance scale; it does not matter where guidance is baked in.
      min_psnr_db: parity to reach; None means the precision's `THRESHOLDS_DB`.
      encoder: whether the bundle gets the encoder of pictures, to start from one.
    """

    name: str
    precision: str
    merges: pathlib.Path
    prompt: str
    sampler: str = "ddim"
    steps: int | None = None
    guidance: float = 4.0
    min_psnr_db: float | None = None
    encoder: bool = False


def write_bundle(model: LatentDiffusion, output: str | os.PathLike, spec: BundleSpec) -> Manifest:
    """Exports a model.

    Everything is made in a temporary folder beside `output`, which is renamed at the end: a failure
    leaves an earlier bundle at `output` as it was.

    Args:
      model: the trained networks.
      output: folder of the bundle; an earlier bundle there is replaced.
      spec: precision, defaults and names.

    Returns:
      The manifest.

    Raises:
      ParityError: a converted network differs too much from Keras.
      FileExistsError: there is something at `output` that is not a bundle.
      ValueError: the precision is unknown.
    """
    output = pathlib.Path(output)
    if output.exists() and not (output / MANIFEST).is_file():
        raise FileExistsError(f"{output} exists and is not a bundle; choose another --output")
    output.parent.mkdir(parents=True, exist_ok=True)
    folder = pathlib.Path(tempfile.mkdtemp(dir=output.parent, prefix=f".{output.name}."))
    try:
        folder.chmod(0o755)
        manifest = _Writer(model, folder, spec).write()
        _publish(folder, output)
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
        sampler = Sampler(default=spec.sampler, steps=spec.steps or model.steps)
        self._settings: Settings = settings_of(model, guidance=spec.guidance, sampler=sampler)
        pad = model.pad_token
        self._tokenizer = Tokenizer(spec.merges, context_length=length, pad_token=pad)
        graphs = component_graphs(model)
        names = (*COMPONENTS, ENCODER) if spec.encoder else COMPONENTS
        self._graphs = {name: graphs[name] for name in names}
        self._reference = RecordingComponents(graphs)

    def write(self) -> Manifest:
        spec = self._spec
        self._record()
        networks, components = {}, {}
        for name, graph in self._graphs.items():
            networks[name], components[name] = self._write_component(graph)
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
            goldens=self._write_goldens({name: networks[name] for name in COMPONENTS}),
            provenance={
                "tfsnap": __version__,
                "created": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
                "converter": f"tf.lite of TensorFlow {tf.__version__}",
                "parameters": {
                    name: sum(v.shape.num_elements() for v in graph.weights)
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

    def _generate(self, components: Components) -> Generated:
        pipeline = Pipeline(components, tokenizer=self._tokenizer, settings=self._settings)
        (result,) = pipeline.generate([self._spec.prompt], steps=_GOLDEN_STEPS, seed=_GOLDEN_SEED)
        return result

    def _write_component(self, graph: Graph) -> tuple[Network, Component]:
        spec = self._spec
        content = convert(graph, spec.precision)
        network = load(content, name=graph.name)
        threshold = spec.min_psnr_db
        if threshold is None:
            threshold = THRESHOLDS_DB[spec.precision]
        psnr = check_parity(
            graph.name,
            network,
            self._reference.calls[graph.name],
            threshold_db=threshold,
        )
        file = f"{graph.name}.tflite"
        (self._folder / file).write_bytes(content)
        return network, Component(
            file=file,
            sha256=hashlib.sha256(content).hexdigest(),
            bytes=len(content),
            inputs=network.inputs,
            outputs=network.outputs,
            parity=Parity(psnr_db=round(psnr, 2), threshold_db=threshold),
        )

    def _write_goldens(self, networks: dict[str, Network]) -> Goldens:
        """One picture of the converted networks, for readers in other languages to repeat."""
        path = self._folder / _GOLDENS
        save_tensors(path, self._generate(TFLiteComponents(**networks))._asdict())
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


def _publish(folder: pathlib.Path, output: pathlib.Path) -> None:
    """Renames `folder` to `output`; an earlier bundle there is removed last."""
    old = output.with_name(f".{output.name}.old")
    shutil.rmtree(old, ignore_errors=True)
    if output.exists():
        os.replace(output, old)
    os.replace(folder, output)
    shutil.rmtree(old, ignore_errors=True)
