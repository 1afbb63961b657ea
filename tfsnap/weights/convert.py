"""Weights from any layout that is known to any that can be written, a tensor at a time."""

import contextlib
import dataclasses
import os
import pathlib
from collections.abc import Iterator, Sequence

from tfsnap.temporary import temporary_folder
from tfsnap.weights import component as parts
from tfsnap.weights.clip_folder import (
    OPEN_CLIP_CONFIG,
    is_transformers_clip,
    read_open_clip,
    read_transformers_clip,
)
from tfsnap.weights.clip_vocabulary import Vocabulary
from tfsnap.weights.component import CLIP, NETWORKS, Component, Report
from tfsnap.weights.diffusers_folder import FOLDERS, read_diffusers, write_diffusers
from tfsnap.weights.from_keras_cv import read_keras_cv
from tfsnap.weights.lazy import LazyTensor, open_safetensors, write_safetensors
from tfsnap.weights.single_file import read_single_file
from tfsnap.weights.tensors import WeightFileError, WeightMismatchError, parsed

DIFFUSERS, LDM, KERAS_CV, TFSNAP, TRANSFORMERS, OPEN_CLIP = FORMATS = (
    "diffusers",
    "ldm",
    "keras_cv",
    "tfsnap",
    "transformers",
    "open_clip",
)
_CLIP_READERS = {TRANSFORMERS: read_transformers_clip, OPEN_CLIP: read_open_clip}
_TORCH_ENDINGS = (".ckpt", ".pt", ".pth", ".bin")
_H5_ENDINGS = (".h5", ".hdf5")


def detect_format(path: str | os.PathLike) -> str:
    """Tells a layout by what lies at a path.

    Raises:
      WeightFileError: nothing does, or it is none of the known layouts.
    """
    path = pathlib.Path(path)
    if not path.exists():
        raise WeightFileError(f"{path}: there is no such file or folder")
    if path.is_dir():
        found = _folder_format(path)
        if found:
            return found
    elif path.suffix in _TORCH_ENDINGS:
        return LDM
    elif path.suffix in _H5_ENDINGS:
        return KERAS_CV
    elif path.suffix == ".safetensors":
        return TFSNAP if "network" in open_safetensors(path)[1] else LDM
    raise WeightFileError(
        f"{path} is no known layout: neither a folder with unet/config.json (diffusers), with "
        "unet.safetensors (tfsnap), with .h5 files (keras_cv) or with a CLIP's config.json "
        "(transformers) or open_clip_config.json, nor a .safetensors or .ckpt file"
    )


def _folder_format(path: pathlib.Path) -> str | None:
    if any((path / folder / "config.json").is_file() for folder in FOLDERS.values()):
        return DIFFUSERS
    if is_transformers_clip(path):
        return TRANSFORMERS
    if (path / OPEN_CLIP_CONFIG).is_file():
        return OPEN_CLIP
    if any((path / f"{name}.safetensors").is_file() for name in (*NETWORKS, CLIP)):
        return TFSNAP
    if any(entry.suffix in _H5_ENDINGS for entry in path.iterdir()):
        return KERAS_CV
    return None


def networks_of(layout: str) -> tuple[str, ...]:
    """Everything that a layout holds: a Stable Diffusion, or a CLIP."""
    return (CLIP,) if layout in _CLIP_READERS else NETWORKS


def read(
    path: str | os.PathLike,
    layout: str,
    networks: Sequence[str] = NETWORKS,
    *,
    prediction: str | None = None,
) -> list[Component]:
    """Opens networks of a checkpoint; their tensors stay on disk.

    Args:
      path: the file or folder.
      layout: one of `FORMATS`.
      networks: which to read; every one must be there.
      prediction: what the UNet's output means, "epsilon" or "v", where the checkpoint does not
        say. None presumes it by the UNet's shape, and notes that.

    Raises:
      WeightFileError: a file is missing or damaged.
      WeightMismatchError: tensors are missing, unexpected or mis-shaped; lists everything. Or the
        checkpoint says another prediction.
    """
    path = pathlib.Path(path)
    _require_held(path, layout, networks)
    if layout in _CLIP_READERS:
        components = _CLIP_READERS[layout](path)
    elif layout == DIFFUSERS:
        components = read_diffusers(path, networks)
    elif layout == LDM:
        components = read_single_file(path, networks)
    elif layout == KERAS_CV:
        components = read_keras_cv(path, networks)
    else:
        components = read_tfsnap(path, networks)
    return [
        _with_prediction(path, layout, part, prediction) if part.network == parts.UNET else part
        for part in components
    ]


def _with_prediction(
    path: pathlib.Path, layout: str, unet: Component, asked: str | None
) -> Component:
    """The UNet, whose description says what it predicts, whether or not its checkpoint did."""
    said = unet.about.get("prediction")
    if layout == TFSNAP:
        said = said or "epsilon"  # As everywhere where a description leaves it out.
    elif layout == KERAS_CV:
        said = asked or said  # Its files say nothing, and its own sampler knows epsilon alone.
    if said is None:
        return _with_presumed_prediction(unet, asked)
    if asked not in (None, said):
        raise WeightMismatchError(
            f"{path} says that its UNet predicts {said}, and --prediction is {asked}: leave it out"
        )
    return dataclasses.replace(unet, about={**unet.about, "prediction": said})


def _with_presumed_prediction(unet: Component, asked: str | None) -> Component:
    second = unet.config.head_width is not None
    presumed = "v" if second else "epsilon"
    note = (
        f"Nothing says what the UNet predicts: taken to be {presumed}, as of Stable Diffusion "
        f"{2 if second else 1}; --prediction says otherwise"
    )
    return dataclasses.replace(
        unet,
        about={**unet.about, "prediction": asked or presumed},
        notes=(*unet.notes, note) if asked is None else unet.notes,
    )


def _require_held(path: pathlib.Path, layout: str, networks: Sequence[str]) -> None:
    held = networks_of(layout) if layout != TFSNAP else (*NETWORKS, CLIP)
    absent = [network for network in networks if network not in held]
    if absent:
        raise WeightFileError(
            f"{path} ({layout}) holds {' and '.join(held)}; {absent[0]} is asked for "
            "(--component chooses)"
        )


def read_tfsnap(path: pathlib.Path, networks: Sequence[str]) -> list[Component]:
    """Opens files that tools/convert_weights.py or the trainer wrote.

    Args:
      path: a folder with `unet.safetensors` and so on, or one such file.
      networks: which to read. A text encoder may also be the text tower in `clip.safetensors`.

    Raises:
      WeightFileError: a file is missing, damaged or has no description.
      WeightMismatchError: tensors do not fit the description; lists everything.
    """
    report, components = Report(), []
    for network in networks:
        file = path
        if path.is_dir():
            file = path / f"{network}.safetensors"
            if network == parts.TEXT_ENCODER and not file.is_file():
                file = path / "clip.safetensors"
        tensors, metadata = open_safetensors(file)
        about = _description(file, metadata)
        holds, config = about.pop("network"), about.pop("config")
        if holds == "clip" and network == parts.TEXT_ENCODER:
            holds = network
            config = config.get("text") if isinstance(config, dict) else None
            tensors = {key: t for key, t in tensors.items() if key.startswith("text.")}
        if holds != network:
            raise WeightFileError(
                f"{file} holds {holds}; {network} is asked for (--component chooses)"
            )
        built = parts.read_config(file, parts.CONFIGS[network], config)
        components.append(
            report.component(
                network, built, tensors, name=lambda row: row.address, torch=False, about=about
            )
        )
    report.check(path)
    return components


def _description(file: pathlib.Path, metadata: dict[str, str]) -> dict:
    about = parsed(file, metadata)
    if not {"network", "config"} <= about.keys():
        raise WeightFileError(f"{file} does not describe its network; was it written by tfsnap?")
    return about


def write_tfsnap(
    components: Sequence[Component], folder: pathlib.Path, *, dtype: str | None
) -> None:
    """Writes one file a network, each of which `tfsnap.weights.archive.load_trained` loads.

    Args:
      components: what to write.
      folder: an empty folder.
      dtype: "float32", "float16" or None for the source's.
    """
    for part in components:
        tensors: dict[str, LazyTensor] = {
            key: part.tensors[key].cast(dtype, key) for key in sorted(part.tensors)
        }
        write_safetensors(folder / f"{part.network}.safetensors", tensors, part.metadata())


def write(
    components: Sequence[Component],
    output: str | os.PathLike,
    layout: str,
    *,
    dtype: str | None = None,
    vocabulary: Vocabulary | None = None,
) -> None:
    """Writes networks to a new folder, which appears once everything is in it.

    Args:
      components: what to write.
      output: the folder; it must not exist, or be empty.
      layout: "tfsnap" or "diffusers".
      dtype: "float32", "float16" or None for the source's.
      vocabulary: CLIP's, which diffusers' tokenizer files are made of.

    Raises:
      FileExistsError: there is something at `output`.
      WeightMismatchError: the layout cannot express the networks, or the type their values.
    """
    if layout == DIFFUSERS and any(part.network == CLIP for part in components):
        raise WeightMismatchError(
            "diffusers' layout has no place for a CLIP's image tower; write it as tfsnap"
        )
    with _new_folder(pathlib.Path(output)) as folder:
        if layout == DIFFUSERS:
            write_diffusers(components, folder, dtype=dtype, vocabulary=vocabulary)
        else:
            write_tfsnap(components, folder, dtype=dtype)


@contextlib.contextmanager
def _new_folder(output: pathlib.Path) -> Iterator[pathlib.Path]:
    if output.exists() and (not output.is_dir() or any(output.iterdir())):
        raise FileExistsError(f"{output} exists: delete it, or choose another --output")
    with temporary_folder(output) as folder:
        yield folder
        os.replace(folder, output)  # Over an empty folder too.
