"""Layers of a network by name or pattern."""

import fnmatch
from collections.abc import Sequence

import tf_keras as keras

_DEEP = 6  # Names of layers within layers that a message lists.


def named_layers(
    model: keras.Model,
    patterns: Sequence[str],
    *,
    field: str,
    kind: type[keras.layers.Layer] = keras.layers.Layer,
    called: str = "layer",
) -> dict[str, keras.layers.Layer]:
    """Finds layers, those within layers as well.

    Args:
      model: a built network.
      patterns: names, such as "down.0", or patterns, such as "up.*".
      field: of the config that the patterns come from, for the message.
      kind: only layers of this class.
      called: what that is, for the message.

    Returns:
      The layers by name, in the order of the names.

    Raises:
      ValueError: a pattern names none of them.
    """
    layers = {layer.name: layer for layer in model.submodules if isinstance(layer, kind)}
    chosen = set()
    for pattern in patterns:
        found = fnmatch.filter(layers, pattern)
        if not found:
            top = sorted(name for name in layers if name.count(".") < 2)
            deep = sorted(layers.keys() - set(top))[:_DEEP]
            raise ValueError(
                f"{field} has {pattern!r}, which names no {called}; some of the network's are "
                f"{', '.join([*top, *deep])}"
            )
        chosen.update(found)
    return {name: layers[name] for name in sorted(chosen)}
