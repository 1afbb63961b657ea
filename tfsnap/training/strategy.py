"""Where the trainer runs."""

import tensorflow as tf


def make_strategy(name: str) -> tf.distribute.Strategy:
    """Returns a distribution strategy.

    Args:
      name: "one" for a single device; "mirrored" for every visible GPU or, without one, every
        logical CPU device.

    Raises:
      ValueError: the name is unknown.
    """
    if name == "one":
        return tf.distribute.OneDeviceStrategy("/gpu:0" if _logical("GPU") else "/cpu:0")
    if name == "mirrored":
        return tf.distribute.MirroredStrategy(_logical("GPU") or _logical("CPU"))
    raise ValueError(f"strategy is {name!r}; it must be one or mirrored")


def _logical(kind: str) -> list[str]:
    return [device.name for device in tf.config.list_logical_devices(kind)]
