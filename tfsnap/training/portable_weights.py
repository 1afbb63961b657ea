"""Weights that a portable step gets from runs that ended after it was compiled.

So stages that build on each other can be compiled together and run one after another on the device,
without TensorFlow between them.
"""

import pathlib
from collections.abc import Mapping, Sequence

import numpy as np

from tfsnap.training.portable_format import Manifest, load_state
from tfsnap.weights.tensors import WeightMismatchError, load_tensors, save_tensors

UNTRAINED = "untrained.safetensors"


def initial_weights(
    manifest: Manifest, tensors: Mapping[str, np.ndarray], path: pathlib.Path
) -> dict[str, np.ndarray]:
    """The trained network's weights and their averages, from the weights of another run.

    Args:
      manifest: of the step.
      tensors: the weights of a network of the same shape, by address.
      path: the file that they are from, for messages.

    Returns:
      Values by argument.

    Raises:
      WeightMismatchError: it belongs to another network.
    """
    found = _matching(manifest, ("model", "ema"), tensors, path)
    wanted = {a.name for a in manifest.checkpoint if a.name.startswith("model/")}
    missing = sorted(wanted - found.keys())
    if missing:
        raise WeightMismatchError(
            f"{path} lacks {missing[0].removeprefix('model/')} and {len(missing) - 1} more weights "
            "that the step trains: they belong to different networks"
        )
    return found


def frozen_weights(manifest: Manifest, paths: Sequence[pathlib.Path]) -> dict[str, np.ndarray]:
    """Weights of the networks that the step only reads.

    Args:
      manifest: of the step.
      paths: safetensors files. What the step does not read, such as the towers of CLIP beside the
        one that conditions a UNet, is left alone.

    Returns:
      Values by argument.

    Raises:
      WeightFileError: a file is missing or damaged.
      WeightMismatchError: the step reads nothing of a file, or in another shape.
    """
    found = {}
    for path in paths:
        tensors, _ = load_tensors(path)
        part = _matching(manifest, ("frozen",), tensors, path)
        if not part:
            read = [a.name for a in manifest.arguments if a.name.startswith("frozen/")]
            raise WeightMismatchError(
                f"the step reads none of the {len(tensors)} weights of {path}; it reads "
                f"{len(read)}, such as {read[0].removeprefix('frozen/') if read else 'none'}"
            )
        found.update(part)
    return found


def save_untrained(folder: pathlib.Path) -> None:
    """Writes the weights that a step starts from as if they were its result, `UNTRAINED`.

    A step that starts from that result, or learns from it, can then be compiled before it is there.

    Args:
      folder: what `tools/compile_step.py` wrote.

    Raises:
      WeightFileError: a file of it is missing or damaged.
    """
    manifest = Manifest.load(folder)
    weights = {
        name.removeprefix("model/"): value
        for name, value in load_state(folder, manifest).items()
        if name.startswith("model/")
    }
    save_tensors(folder / UNTRAINED, weights, dict(manifest.description or {}))


def _matching(
    manifest: Manifest,
    parts: Sequence[str],
    tensors: Mapping[str, np.ndarray],
    path: pathlib.Path,
) -> dict[str, np.ndarray]:
    """What a file has for the arguments of some parts, in their types."""
    found = {}
    for argument in (*manifest.arguments, *manifest.checkpoint):
        part, _, address = argument.name.partition("/")
        if part not in parts or address not in tensors:
            continue
        value = tensors[address]
        if value.shape != argument.shape:
            raise WeightMismatchError(
                f"{path} has {address} of shape {list(value.shape)}, the step wants "
                f"{list(argument.shape)}: they belong to different networks"
            )
        found[argument.name] = value.astype(argument.dtype)
    return found
