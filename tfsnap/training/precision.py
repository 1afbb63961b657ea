"""The arithmetic of training: which numbers activations are, and how small gradients survive."""

import contextlib
from collections.abc import Iterator

import tf_keras as keras

from tfsnap.training.config import PRECISIONS


@contextlib.contextmanager
def computing_in(precision: str) -> Iterator[None]:
    """Networks built inside compute in `precision`; their weights stay float32.

    Args:
      precision: a name of `tfsnap.training.config.PRECISIONS`.

    Raises:
      ValueError: another name.
    """
    if precision not in PRECISIONS:
        raise ValueError(f"precision is {precision!r}; it must be one of {', '.join(PRECISIONS)}")
    before = keras.mixed_precision.global_policy()
    name = precision if precision == "float32" else f"mixed_{precision}"
    keras.mixed_precision.set_global_policy(name)
    try:
        yield
    finally:
        keras.mixed_precision.set_global_policy(before)
