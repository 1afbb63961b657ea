"""Hugging Face diffusers' folders, in and out."""

import json
import pathlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from tfsnap.config import DESCRIPTION_ERRORS, Config
from tfsnap.weights import diffusers_config as configs
from tfsnap.weights.clip_vocabulary import Vocabulary, write_tokenizer
from tfsnap.weights.component import (
    AUTOENCODER,
    TEXT_ENCODER,
    UNET,
    Component,
    Report,
)
from tfsnap.weights.lazy import LazyTensor, write_safetensors
from tfsnap.weights.names import autoencoder, unet
from tfsnap.weights.names.text_encoder import PREFIX
from tfsnap.weights.open_file import open_file
from tfsnap.weights.tensors import WeightFileError

FOLDERS = {UNET: "unet", AUTOENCODER: "vae", TEXT_ENCODER: "text_encoder"}
_STEMS = {
    UNET: "diffusion_pytorch_model",
    AUTOENCODER: "diffusion_pytorch_model",
    TEXT_ENCODER: "model",
}
_TORCH_STEMS = {**_STEMS, TEXT_ENCODER: "pytorch_model"}
_READERS: dict[str, Callable[[dict[str, Any]], Config]] = {
    UNET: configs.unet_from_json,
    AUTOENCODER: configs.autoencoder_from_json,
    TEXT_ENCODER: configs.text_encoder_from_json,
}
# Attention of the autoencoder, as diffusers wrote it before 0.15.
_OLD_NAMES = {".query.": ".to_q.", ".key.": ".to_k.", ".value.": ".to_v."}
_OLD_NAMES[".proj_attn."] = ".to_out.0."

# Stable Diffusion 1 pads prompts with the end token, the last of the vocabulary, and 2 with this.
_EXCLAMATION = 0
_CLIP_VOCAB_SIZE = 49408


def read_json(path: pathlib.Path) -> dict[str, Any]:
    """Reads a JSON object.

    Raises:
      WeightFileError: the file is missing or holds something else.
    """
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise WeightFileError(f"{path}: cannot be read ({error.strerror})") from error
    except ValueError as error:
        raise WeightFileError(f"{path}: not JSON ({error})") from error
    if not isinstance(values, dict):
        raise WeightFileError(f"{path}: holds no JSON object")
    return values


def read_diffusers(path: pathlib.Path, networks: Sequence[str]) -> list[Component]:
    """Reads networks from a folder such as `StableDiffusionPipeline.save_pretrained` writes.

    Args:
      path: the folder with `unet`, `vae` and `text_encoder`.
      networks: which to read.

    Raises:
      WeightFileError: a file is missing or damaged.
      WeightMismatchError: a network cannot be built here, or tensors do not fit; lists everything.
    """
    report, components = Report(), []
    for network in networks:
        folder = path / FOLDERS[network]
        values = read_json(folder / "config.json")
        try:
            config = _READERS[network](values)
            about = _about(network, path, values)
        except DESCRIPTION_ERRORS as error:
            report.add(f"{FOLDERS[network]}/config.json", getattr(error, "lines", [repr(error)]))
            continue
        found = _modern(network, open_weights(folder, _STEMS[network], _TORCH_STEMS[network]))
        components.append(
            report.component(network, config, found, name=lambda row: row.diffusers, about=about)
        )
    report.check(path)
    return components


def _about(network: str, path: pathlib.Path, values: dict[str, Any]) -> dict[str, Any]:
    if network == TEXT_ENCODER:
        # Tokens that somebody added stand behind CLIP's.
        size = min(values.get("vocab_size", _CLIP_VOCAB_SIZE), _CLIP_VOCAB_SIZE)
        return {"pad_token": _pad_token(path / "tokenizer", end_token=size - 1)}
    if network == AUTOENCODER:
        return {"resolution": values.get("sample_size", 512)}
    scheduler = path / "scheduler/scheduler_config.json"
    about = configs.scheduler_from_json(read_json(scheduler)) if scheduler.is_file() else {}
    side = values.get("sample_size") or 64
    vae = path / "vae/config.json"
    stages = len(read_json(vae)["block_out_channels"]) if vae.is_file() else 4
    sides = side if isinstance(side, list) else [side, side]
    return {**about, "resolution": [cells * 2 ** (stages - 1) for cells in sides]}


def _pad_token(folder: pathlib.Path, end_token: int) -> int:
    for name in ("special_tokens_map.json", "tokenizer_config.json"):
        if (folder / name).is_file():
            token = read_json(folder / name).get("pad_token")
            token = token.get("content") if isinstance(token, dict) else token
            if token is not None:
                return _EXCLAMATION if token == "!" else end_token
    return end_token


def open_weights(folder: pathlib.Path, stem: str, torch_stem: str) -> dict[str, LazyTensor]:
    """Opens a component's weight file, or all its shards.

    Args:
      folder: where they lie.
      stem: the name of the .safetensors file, without that ending.
      torch_stem: that of the .bin file.

    Raises:
      WeightFileError: there is none, a shard is missing, or a file is damaged.
    """
    for variant in ("", ".fp16"):
        for ending in (".safetensors", ".bin"):
            base = stem if ending == ".safetensors" else torch_stem
            for index in (f"{base}{ending}.index{variant}.json", f"{base}{ending}.index.json"):
                if (folder / index).is_file():
                    return _sharded(folder / index)
            if (folder / f"{base}{variant}{ending}").is_file():
                return open_file(folder / f"{base}{variant}{ending}")
    raise WeightFileError(f"{folder} holds neither {stem}.safetensors nor shards of it")


def _sharded(index: pathlib.Path) -> dict[str, LazyTensor]:
    tensors: dict[str, LazyTensor] = {}
    where = read_json(index).get("weight_map")
    if not isinstance(where, dict) or not all(isinstance(name, str) for name in where.values()):
        raise WeightFileError(f"{index}: its weight_map is damaged; fetch it again")
    for name in sorted(set(where.values())):
        if pathlib.PurePath(name).name != name:
            raise WeightFileError(f"{index}: {name!r} lies outside of the folder")
        tensors |= open_file(index.parent / name)
    return tensors


def _modern(network: str, found: Mapping[str, LazyTensor]) -> dict[str, LazyTensor]:
    """Renames tensors as today's diffusers does, and drops what is no weight."""
    tensors = {}
    for name, tensor in found.items():
        if network == TEXT_ENCODER:
            name = name if name.startswith(PREFIX) else PREFIX + name
            if name == f"{PREFIX}embeddings.position_ids":
                continue
        elif network == AUTOENCODER and ".attentions." in name:
            for old, new in _OLD_NAMES.items():
                name = name.replace(old, new)
        tensors[name] = tensor
    return tensors


def write_diffusers(
    components: Sequence[Component],
    folder: pathlib.Path,
    *,
    dtype: str | None,
    vocabulary: Vocabulary | None,
) -> None:
    """Writes networks as diffusers loads them; all three make a whole pipeline.

    Args:
      components: what to write.
      folder: an empty folder.
      dtype: "float32", "float16" or None for the source's.
      vocabulary: CLIP's, for a text encoder's tokenizer; None writes no tokenizer.

    Raises:
      WeightMismatchError: diffusers has no name for a part of a network; nothing is written.
    """
    report = Report()
    reasons = {UNET: unet.unrepresentable, AUTOENCODER: autoencoder.unrepresentable}
    for part in components:
        if part.network in reasons:
            report.add(part.network, reasons[part.network](part.config))
    report.check("The model (to diffusers' layout)")
    for part in components:
        _write_component(part, components, folder / FOLDERS[part.network], dtype)
        if part.network == UNET:
            values = configs.scheduler_to_json(part.about)
            _write_json(folder / "scheduler/scheduler_config.json", values)
        elif part.network == TEXT_ENCODER and vocabulary is not None:
            # Text encoders that were trained here do not name theirs: it is 0, as everywhere.
            padded = part.about.get("pad_token", _EXCLAMATION)
            pad = "!" if padded == _EXCLAMATION else "<|endoftext|>"
            length = part.config.context_length
            write_tokenizer(folder / "tokenizer", vocabulary, pad=pad, length=length)
    if len(components) == len(FOLDERS):
        _write_json(folder / "model_index.json", _model_index(components))


def _write_component(
    part: Component, all_parts: Sequence[Component], folder: pathlib.Path, dtype: str | None
) -> None:
    tensors = {
        row.diffusers: part.tensors[row.address]
        .map(row.torch_shape, row.to_torch)
        .cast(dtype, row.diffusers)
        for row in sorted(part.rows, key=lambda row: row.diffusers)
    }
    write_safetensors(folder / f"{_STEMS[part.network]}.safetensors", tensors, {"format": "pt"})
    resolution = _resolution(all_parts)
    if part.network == UNET:
        cells = [p.config.downsampling for p in all_parts if p.network == AUTOENCODER]
        values = configs.unet_to_json(part.config, resolution // (*cells, 8)[0])
    elif part.network == AUTOENCODER:
        values = configs.autoencoder_to_json(part.config, resolution)
    else:
        values = configs.text_encoder_to_json(part.config)
    _write_json(folder / "config.json", values)


def _resolution(components: Sequence[Component]) -> int:
    for part in components:
        found = part.about.get("resolution")
        if found:
            return found[0] if isinstance(found, list) else found
    return 512


def _model_index(components: Sequence[Component]) -> dict[str, Any]:
    (about,) = (part.about for part in components if part.network == UNET)
    scheduler = configs.scheduler_to_json(about)["_class_name"]
    return {
        "_class_name": "StableDiffusionPipeline",
        "_diffusers_version": configs.VERSION,
        "feature_extractor": [None, None],
        "image_encoder": [None, None],
        "requires_safety_checker": False,
        "safety_checker": [None, None],
        "scheduler": ["diffusers", scheduler],
        "text_encoder": ["transformers", "CLIPTextModel"],
        "tokenizer": ["transformers", "CLIPTokenizer"],
        "unet": ["diffusers", "UNet2DConditionModel"],
        "vae": ["diffusers", "AutoencoderKL"],
    }


def _write_json(path: pathlib.Path, values: Mapping[str, Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(values, indent=2, sort_keys=True) + "\n", encoding="utf-8")
