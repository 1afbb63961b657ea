"""The folder of a portable training step: what `compile_step` writes and `run_step` reads.

    step.stablehlo      the step, a portable StableHLO artifact
    manifest.json       its arguments and results by name and in order, and the run's numbers
    state.safetensors   values of the arguments before the first step
    tables.safetensors  the training data

Needs numpy, safetensors and Pillow, never TensorFlow.
"""

import concurrent.futures
import dataclasses
import io
import json
import pathlib
from collections.abc import Mapping
from typing import Any

import numpy as np
from PIL import Image

from tfsnap.weights.tensors import WeightFileError, load_tensors, save_tensors

MODULE = "step.stablehlo"
MANIFEST = "manifest.json"
STATE = "state.safetensors"
TABLES = "tables.safetensors"

_FORMAT = "tfsnap-step"
_VERSION = 1
_INDEX = "index"
_WEBP = "webp"  # Pictures: one lossless WebP file each, one after another, with their ends.


@dataclasses.dataclass(frozen=True)
class Argument:
    """One argument of the module.

    Attributes:
      name: "rows", "step", "tables/<name>", or a variable: "model/...", "ema/..." and
        "optimizer/..." as in checkpoints, "scratch/..." for what the step writes besides, and
        "frozen/..." for what it only reads.
      dtype: numpy's name of its type.
      shape: its shape.
    """

    name: str
    dtype: str
    shape: tuple[int, ...]


@dataclasses.dataclass(frozen=True)
class Manifest:
    """What a runner must know about a step.

    Attributes:
      label: what is trained.
      steps: steps of the whole run.
      first_step: steps that the state had done when it was written.
      batch_size: examples per step.
      seed: of the order of examples.
      log_every: steps between lines of progress.
      checkpoint_every: steps between checkpoints.
      keep_checkpoints: how many of the newest stay.
      arguments: the module's arguments, in order.
      results: the module's results, in order: a figure such as "loss", or the argument that it
        replaces in the next step.
      checkpoint: what a checkpoint holds, whether the step reads it or not.
      derived: for arguments that are not in the state file: "zeros", or the name of their equal.
      description: metadata of the finished weights; None when it depends on them.
      keep_every: checkpoints of multiples of this step stay for good; 0 for none.
    """

    label: str
    steps: int
    first_step: int
    batch_size: int
    seed: int
    log_every: int
    checkpoint_every: int
    keep_checkpoints: int
    arguments: tuple[Argument, ...]
    results: tuple[str, ...]
    checkpoint: tuple[Argument, ...]
    derived: Mapping[str, str]
    description: Mapping[str, Any] | None
    keep_every: int = 0

    @property
    def figures(self) -> tuple[str, ...]:
        """Results that are reported: the loss and the metrics."""
        replaced = {argument.name for argument in self.arguments}
        return tuple(name for name in self.results if name not in replaced)

    def save(self, folder: pathlib.Path) -> None:
        """Writes `manifest.json`."""
        values = {"format": _FORMAT, "format_version": _VERSION, **dataclasses.asdict(self)}
        (folder / MANIFEST).write_text(json.dumps(values, indent=1) + "\n")

    @classmethod
    def load(cls, folder: pathlib.Path) -> "Manifest":
        """Reads `manifest.json`.

        Raises:
          WeightFileError: the folder holds no step, or one of another version.
        """
        try:
            values = json.loads((folder / MANIFEST).read_text())
        except (OSError, ValueError) as error:
            raise WeightFileError(
                f"{folder} holds no training step ({error}); make one with tools/compile_step.py"
            ) from error
        found = (values.pop("format", None), values.pop("format_version", None))
        if found != (_FORMAT, _VERSION):
            raise WeightFileError(
                f"{folder / MANIFEST} is {found[0]} {found[1]}; this program reads {_FORMAT} "
                f"{_VERSION}: run the compile_step.py that belongs to it"
            )
        for name in ("arguments", "checkpoint"):
            values[name] = tuple(
                Argument(a["name"], a["dtype"], tuple(a["shape"])) for a in values[name]
            )
        return cls(**{**values, "results": tuple(values["results"])})


def save_state(
    folder: pathlib.Path,
    values: Mapping[str, np.ndarray],
    *,
    half: tuple[str, ...] = (),
) -> dict[str, str]:
    """Writes the arguments' values; those that are zero or equal to a weight are left out.

    Args:
      folder: the step's folder.
      values: arrays by argument.
      half: first parts of the names ("frozen", "model", ...) whose floats are rounded to float16.

    Returns:
      `Manifest.derived`.
    """
    derived: dict[str, str] = {}
    for name, value in values.items():
        part, _, address = name.partition("/")
        weight = f"model/{address}"
        if not value.any():
            derived[name] = "zeros"
        elif part == "ema" and np.array_equal(value, values[weight]):
            derived[name] = weight
    stored = {name: value for name, value in values.items() if name not in derived}
    for name, value in stored.items():
        if name.partition("/")[0] in half and value.dtype == np.float32:
            stored[name] = value.astype(np.float16)
    save_tensors(folder / STATE, stored)
    return derived


def load_state(folder: pathlib.Path, manifest: Manifest) -> dict[str, np.ndarray]:
    """Reads the arguments' values back.

    Raises:
      WeightFileError: the file is missing or damaged.
    """
    stored, _ = load_tensors(folder / STATE)
    state = {}
    for argument in {*manifest.arguments, *manifest.checkpoint}:
        source = manifest.derived.get(argument.name, argument.name)
        if source == "zeros":
            state[argument.name] = np.zeros(argument.shape, argument.dtype)
        elif source in stored:
            state[argument.name] = stored[source].astype(argument.dtype)
    return state


def save_tables(folder: pathlib.Path, tables: Mapping[str, np.ndarray], index: np.ndarray) -> None:
    """Writes the tables and the rows of an epoch, without loss and small.

    Args:
      folder: the step's folder.
      tables: arrays by name; uint8 [N, H, W, 3] are pictures.
      index: int [M].
    """
    tensors, encodings = {_INDEX: _narrow(index)}, {}
    for name, table in tables.items():
        encodings[name] = {"dtype": str(table.dtype), "shape": list(table.shape)}
        if table.dtype == np.uint8 and table.ndim == 4 and table.shape[-1] == 3:
            encodings[name]["encoding"] = _WEBP
            tensors[f"{name}.files"], tensors[f"{name}.ends"] = _pack_pictures(table)
        else:
            tensors[name] = _narrow(table)
    save_tensors(folder / TABLES, tensors, {"tables": encodings})


def load_tables(folder: pathlib.Path) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """Reads what `save_tables` wrote.

    Returns:
      The tables by name, and the rows of an epoch, int64 [M].

    Raises:
      WeightFileError: the file is missing or damaged.
    """
    tensors, about = load_tensors(folder / TABLES)
    tables = {}
    for name, encoding in about["tables"].items():
        if encoding.get("encoding") == _WEBP:
            tables[name] = _unpack_pictures(
                tensors[f"{name}.files"], ends=tensors[f"{name}.ends"], shape=encoding["shape"]
            )
        else:
            tables[name] = tensors[name].astype(encoding["dtype"])
    return tables, tensors[_INDEX].astype(np.int64)


def _narrow(array: np.ndarray) -> np.ndarray:
    """Integers in two bytes where all of them fit."""
    fits = array.dtype.kind == "i" and array.size and array.min() >= 0 and array.max() < 2**16
    return array.astype(np.uint16) if fits else array


def _pack_pictures(pictures: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    def encode(picture: np.ndarray) -> bytes:
        file = io.BytesIO()
        Image.fromarray(picture).save(file, "webp", lossless=True)
        return file.getvalue()

    with concurrent.futures.ThreadPoolExecutor() as pool:
        files = list(pool.map(encode, pictures))
    ends = np.cumsum([len(file) for file in files], dtype=np.int64)
    return np.frombuffer(b"".join(files), np.uint8), ends


def _unpack_pictures(files: np.ndarray, *, ends: np.ndarray, shape: list[int]) -> np.ndarray:
    pictures = np.empty(shape, np.uint8)
    data, starts = files.tobytes(), np.concatenate([[0], ends[:-1]])

    def decode(i: int) -> None:
        pictures[i] = Image.open(io.BytesIO(data[starts[i] : ends[i]])).convert("RGB")

    with concurrent.futures.ThreadPoolExecutor() as pool:
        list(pool.map(decode, range(len(ends))))
    return pictures
