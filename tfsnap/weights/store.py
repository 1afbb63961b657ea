"""Name-keyed safetensors files.

A tensor's key is its layer's address and the weight's own name: `down.0.resnets.1.conv1.kernel`.
Keys never depend on the order in which layers were made, so that a network that lost a block loads
the weights of the blocks that it kept, and nothing else.
"""

import os
from collections.abc import Container, Iterable, Mapping

import numpy as np
import tensorflow as tf

from tfsnap.weights.lazy import LazyTensor
from tfsnap.weights.tensors import (
    WeightFileError as WeightFileError,  # Here too for those who load weights.
)
from tfsnap.weights.tensors import WeightMismatchError, listed, load_tensors, save_tensors

_LISTED = 8  # How many names of each kind a mismatch lists.


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


def in_memory(variables: Iterable[tf.Variable]) -> dict[str, LazyTensor]:
    """What variables hold, by address, as tensors that are read when they are needed."""
    return {
        key: LazyTensor(
            tuple(variable.shape), np.dtype(variable.dtype.as_numpy_dtype), variable.numpy
        )
        for key, variable in addressed(variables).items()
    }


def _differences(
    tensors: Mapping[str, np.ndarray | LazyTensor],
    variables: Mapping[str, tf.Variable],
    partial: bool,
    added: Container[str],
) -> list[str]:
    shared = tensors.keys() & variables.keys()
    missing = sorted(variables.keys() - tensors.keys())
    kinds = {
        "missing": [key for key in missing if key not in added],
        "unexpected": [] if partial else sorted(tensors.keys() - variables.keys()),
        "mis-shaped": [
            f"{key} (file {list(tensors[key].shape)}, model {variables[key].shape.as_list()})"
            for key in sorted(shared)
            if tensors[key].shape != tuple(variables[key].shape)
        ],
    }
    return listed(kinds, _LISTED)


def require_fit(
    tensors: Mapping[str, np.ndarray | LazyTensor],
    variables: Iterable[tf.Variable],
    *,
    partial: bool = False,
    added: Container[str] = (),
    source: str = "tensors",
) -> dict[str, tf.Variable]:
    """Compares tensors with the variables that they are for; arguments are those of `assign`.

    Returns:
      The variables by address.

    Raises:
      WeightMismatchError: a tensor is missing, unexpected or has another shape.
    """
    targets = addressed(variables)
    lines = _differences(tensors, targets, partial, added)
    if lines:
        raise WeightMismatchError(f"{source} does not fit the model: " + "; ".join(lines))
    return targets


def assign(
    tensors: Mapping[str, np.ndarray],
    variables: Iterable[tf.Variable],
    *,
    partial: bool = False,
    added: Container[str] = (),
    source: str = "tensors",
) -> None:
    """Copies arrays into variables of the same address; all are checked before any is written.

    Args:
      tensors: arrays by address.
      variables: the variables to fill.
      partial: allow `tensors` to hold more than the variables need.
      added: addresses that `tensors` may lack; those variables stay as they are.
      source: where the tensors come from, for the message.

    Raises:
      WeightMismatchError: a tensor is missing, unexpected or has another shape.
    """
    targets = require_fit(tensors, variables, partial=partial, source=source, added=added)
    for key in targets.keys() & tensors.keys():
        targets[key].assign(tensors[key].astype(targets[key].dtype.as_numpy_dtype))


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
    values = {key: variable.read_value() for key, variable in addressed(variables).items()}
    # Where the type stays these are the variables' own memory, not a copy of it.
    arrays = {key: np.asarray(value).astype(dtype, copy=False) for key, value in values.items()}
    save_tensors(path, arrays, metadata)


def load_weights(
    path: str | os.PathLike,
    variables: Iterable[tf.Variable],
    *,
    partial: bool = False,
    added: Container[str] = (),
) -> None:
    """Fills a model's variables from a file written by `save_weights`.

    Args:
      path: file to read.
      variables: `model.variables`.
      partial: allow the file to hold more than the model needs (a text encoder read from CLIP).
      added: addresses that the file may lack; those variables stay as they are.

    Raises:
      WeightFileError: the file is missing or damaged.
      WeightMismatchError: a tensor is missing, unexpected or has another shape; nothing is written.
    """
    tensors, _ = load_tensors(path)
    assign(tensors, variables, partial=partial, added=added, source=str(path))
