"""Weights that go from a network to its edited successor, by name."""

import re
from collections.abc import Mapping

import numpy as np
import tensorflow as tf

from tfsnap.evolve.actions import Edited
from tfsnap.models.unet import build_unet
from tfsnap.weights.store import addressed

_BLOCK = re.compile(r"((?:down\.\d+|mid|up\.\d+)\.(?:resnets\.\d+|attentions\.\d+\.\d+))\.(.+)")
# What a residual branch ends with: it starts at zero, so that a new block changes nothing.
_LAST = ("conv2.", "proj_out.")


def carry(tensors: Mapping[str, np.ndarray], edited: Edited) -> dict[str, np.ndarray]:
    """Makes the weights of an edited network.

    Blocks that stay keep their weights, whatever they are called now. A new block is a copy of its
    neighbour but for the end of its residual branch, which is zero: the network computes what it
    computed, and what the copied branch has learnt is there as soon as its end leaves zero.

    Args:
      tensors: weights of the network before, by address.
      edited: what was edited, once or several times.

    Returns:
      The edited network's weights, by address.

    Raises:
      ValueError: a tensor is missing or has another shape: `tensors` are of another network.
    """
    fresh = addressed(build_unet(edited.config).variables)
    return {name: _carried(name, variable, tensors, edited) for name, variable in fresh.items()}


def _carried(
    name: str, fresh: tf.Variable, tensors: Mapping[str, np.ndarray], edited: Edited
) -> np.ndarray:
    source, new = name, False
    match = _BLOCK.fullmatch(name)
    if match:
        block, rest = match.groups()
        origin = edited.origins[block]
        new = origin.added
        if new and rest.startswith(_LAST):
            return np.zeros(fresh.shape, np.float32)
        if new and rest.startswith("shortcut."):
            return _first_channels(tuple(fresh.shape))
        if origin.name is None:
            return fresh.numpy()
        source = f"{origin.name}.{rest}"
    found = tensors.get(source)
    if found is None or found.shape != tuple(fresh.shape):
        seen = "is missing" if found is None else f"is {list(found.shape)}"
        raise ValueError(
            f"{name} is {list(fresh.shape)} in the edited network, but {source} {seen} in the "
            "network before: these weights are of another network"
        )
    return found


def _first_channels(shape: tuple[int, ...]) -> np.ndarray:
    """A projection that passes its first channels, those of the way up, and drops the skip's."""
    passing = np.zeros(shape, np.float32)
    if len(shape) == 4:  # A kernel [1, 1, C_in, C_out], not a bias.
        np.fill_diagonal(passing[0, 0], 1.0)
    return passing
