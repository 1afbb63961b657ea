"""Name-keyed safetensors files.

A tensor's key is its layer's address and the weight's own name: `down.0.resnets.1.conv1.kernel`.
Keys never depend on the order in which layers were made, so that a network that lost a block loads
the weights of the blocks that it kept, and nothing else.
"""

import json
import os
import pathlib
import tempfile
from collections.abc import Iterable, Mapping

import numpy as np
import safetensors
import safetensors.numpy
import tensorflow as tf

_LISTED = 8  # How many names of each kind a mismatch lists.


class WeightMismatchError(ValueError):
    """A file's tensors are not the model's: the message lists every kind of difference."""


class WeightFileError(ValueError):
    """A file is missing, truncated, or not safetensors."""


def address(variable: tf.Variable) -> str:
    """The store's key of a Keras variable: its layer's name and its own, joined by a dot."""
    return ".".join(variable.name.split(":")[0].split("/")[-2:])


def addressed(variables: Iterable[tf.Variable]) -> dict[str, tf.Variable]:
    """Maps addresses to variables, in alphabetical order.

    Raises:
      ValueError: two variables share an address.
    """
    found: dict[str, tf.Variable] = {}
    for variable in variables:
        key = address(variable)
        if key in found:
            raise ValueError(f"two weights are called {key!r}; layer names must be unique")
        found[key] = variable
    return dict(sorted(found.items()))


def save_tensors(
    path: str | os.PathLike,
    tensors: Mapping[str, np.ndarray],
    metadata: Mapping[str, object] | None = None,
) -> None:
    """Writes tensors to a safetensors file, atomically.

    Args:
      path: file to write; an existing one is replaced only once the new one is complete.
      tensors: arrays by name.
      metadata: JSON values by name, stored in the header.
    """
    path = pathlib.Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    header = {key: json.dumps(value) for key, value in (metadata or {}).items()}
    contiguous = {key: np.asarray(value, order="C") for key, value in tensors.items()}
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    os.close(handle)
    try:
        safetensors.numpy.save_file(contiguous, temporary, header)
        os.chmod(temporary, 0o644)
        os.replace(temporary, path)
    except BaseException:
        os.unlink(temporary)
        raise


def load_tensors(path: str | os.PathLike) -> tuple[dict[str, np.ndarray], dict[str, object]]:
    """Reads a safetensors file written by `save_tensors`.

    Returns:
      Arrays by name, and the metadata.

    Raises:
      WeightFileError: the file is missing, truncated or not safetensors.
    """
    path = pathlib.Path(path)
    if not path.is_file():
        raise WeightFileError(f"{path}: no such weight file")
    try:
        with safetensors.safe_open(path, framework="np") as file:
            metadata = {key: json.loads(value) for key, value in (file.metadata() or {}).items()}
            return {key: file.get_tensor(key) for key in file.keys()}, metadata  # noqa: SIM118
    except safetensors.SafetensorError as error:
        size = path.stat().st_size
        raise WeightFileError(
            f"{path}: not a complete safetensors file ({size} bytes: {error}); fetch it again"
        ) from error


def _differences(
    tensors: Mapping[str, np.ndarray], variables: Mapping[str, tf.Variable], partial: bool
) -> list[str]:
    shared = tensors.keys() & variables.keys()
    kinds = {
        "missing": sorted(variables.keys() - tensors.keys()),
        "unexpected": [] if partial else sorted(tensors.keys() - variables.keys()),
        "mis-shaped": [
            f"{key} (file {list(tensors[key].shape)}, model {variables[key].shape.as_list()})"
            for key in sorted(shared)
            if tensors[key].shape != tuple(variables[key].shape)
        ],
    }
    lines = []
    for kind, names in kinds.items():
        if names:
            more = f", and {len(names) - _LISTED} more" if len(names) > _LISTED else ""
            lines.append(f"{len(names)} {kind}: {', '.join(names[:_LISTED])}{more}")
    return lines


def assign(
    tensors: Mapping[str, np.ndarray],
    variables: Iterable[tf.Variable],
    *,
    partial: bool = False,
    source: str = "tensors",
) -> None:
    """Copies arrays into variables of the same address; all are checked before any is written.

    Args:
      tensors: arrays by address.
      variables: the variables to fill.
      partial: allow `tensors` to hold more than the variables need.
      source: where the tensors come from, for the message.

    Raises:
      WeightMismatchError: a tensor is missing, unexpected or has another shape.
    """
    targets = addressed(variables)
    lines = _differences(tensors, targets, partial)
    if lines:
        raise WeightMismatchError(f"{source} does not fit the model: " + "; ".join(lines))
    for key, variable in targets.items():
        variable.assign(tensors[key].astype(variable.dtype.as_numpy_dtype))


def save_weights(
    path: str | os.PathLike,
    variables: Iterable[tf.Variable],
    *,
    dtype: str = "float32",
    metadata: Mapping[str, object] | None = None,
) -> None:
    """Writes a model's variables, keyed by address.

    Args:
      path: file to write.
      variables: `model.variables`.
      dtype: "float32" or "float16", the type on disk of floating-point weights.
      metadata: JSON values for the header, such as the model's config.
    """
    arrays = {key: variable.numpy().astype(dtype) for key, variable in addressed(variables).items()}
    save_tensors(path, arrays, metadata)


def load_weights(
    path: str | os.PathLike, variables: Iterable[tf.Variable], *, partial: bool = False
) -> None:
    """Fills a model's variables from a file written by `save_weights`.

    Args:
      path: file to read.
      variables: `model.variables`.
      partial: allow the file to hold more than the model needs (a text encoder read from CLIP).

    Raises:
      WeightFileError: the file is missing or damaged.
      WeightMismatchError: a tensor is missing, unexpected or has another shape; nothing is written.
    """
    tensors, _ = load_tensors(path)
    assign(tensors, variables, partial=partial, source=str(path))
