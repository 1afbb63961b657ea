"""CLIP with both towers from the folders in which it is published."""

import pathlib
from collections.abc import Callable, Mapping
from typing import Any

from tfsnap.config import DESCRIPTION_ERRORS, ClipConfig
from tfsnap.weights.clip_config import clip_from_json, clip_from_open_clip
from tfsnap.weights.component import CLIP, Component, Report
from tfsnap.weights.diffusers_folder import open_weights, read_json
from tfsnap.weights.lazy import LazyTensor
from tfsnap.weights.names.clip import IMAGE_PREFIX
from tfsnap.weights.names.text_encoder import PREFIX
from tfsnap.weights.open_clip import clip_names

CONFIG, OPEN_CLIP_CONFIG = "config.json", "open_clip_config.json"
_BUFFERS = {f"{prefix}embeddings.position_ids" for prefix in (PREFIX, IMAGE_PREFIX)}


def is_transformers_clip(folder: pathlib.Path) -> bool:
    """Whether `CLIPModel.save_pretrained` wrote a folder, or could have."""
    path = folder / CONFIG
    return path.is_file() and read_json(path).get("model_type") == "clip"


def read_transformers_clip(path: pathlib.Path) -> list[Component]:
    """Opens a folder of transformers: `config.json`, `model.safetensors` or shards of it.

    `preprocessor_config.json` says how pictures are normalised; without it they are as OpenAI's.

    Raises:
      WeightFileError: a file is missing or damaged.
      WeightMismatchError: the network cannot be built here, or tensors do not fit; lists
        everything.
    """
    values, preprocessor = read_json(path / CONFIG), path / "preprocessor_config.json"
    how = read_json(preprocessor) if preprocessor.is_file() else {}
    return _component(
        path,
        CONFIG,
        config=lambda: clip_from_json(values, how),
        tensors=lambda: open_weights(path, "model", "pytorch_model"),
    )


def read_open_clip(path: pathlib.Path) -> list[Component]:
    """Opens a folder of OpenCLIP: `open_clip_config.json` and its `.safetensors` or `.bin`.

    The errors are those of `read_transformers_clip`.
    """
    values = read_json(path / OPEN_CLIP_CONFIG)
    return _component(
        path,
        OPEN_CLIP_CONFIG,
        config=lambda: clip_from_open_clip(values),
        tensors=lambda: clip_names(
            open_weights(path, "open_clip_model", "open_clip_pytorch_model")
        ),
    )


def _component(
    path: pathlib.Path,
    file: str,
    *,
    config: Callable[[], ClipConfig],
    tensors: Callable[[], Mapping[str, LazyTensor]],
) -> list[Component]:
    report, found = Report(), None
    try:
        found = config()
    except DESCRIPTION_ERRORS as error:
        report.add(file, getattr(error, "lines", [repr(error)]))
    report.check(path)
    weights = {name: tensor for name, tensor in tensors().items() if name not in _BUFFERS}
    about: dict[str, Any] = {"pad_token": 0}
    component = report.component(CLIP, found, weights, name=lambda row: row.diffusers, about=about)
    report.check(path)
    return [component]
