"""Training that prepares a network for losing blocks."""

import dataclasses
import functools
from typing import ClassVar

import tensorflow as tf
import tf_keras as keras

from tfsnap.objectives.base import Batch, Draws, Losses, Objective

_STREAM = 1_000  # Apart from those of the objectives.


@dataclasses.dataclass(frozen=True)
class Robust:
    """Runs each block with probability p in each step, and trains what is left of the network.

    A ResNet or cross-attention block that does not run is the identity, or its shortcut projection
    where the number of channels changes. The choice is one for the whole global batch. It is data,
    not structure: `tf.cond` picks what runs, so that a step is traced and compiled once, and a
    block that is left out is not computed.

    Attributes:
      objective: what is minimised.
      probability: p. The paper does not give it.

    Reference: SnapFusion, section 3.1, "robust training".
    """

    separable: ClassVar[bool] = True

    objective: Objective
    probability: float

    def __post_init__(self) -> None:
        if not self.objective.separable:
            raise ValueError("robust training is for objectives that take examples one by one")
        if not 0.0 < self.probability <= 1.0:
            raise ValueError(f"probability is {self.probability}; it must be above 0, at most 1")

    def __call__(self, model: keras.Model, batch: Batch, draws: Draws) -> Losses:
        """Returns the objective's losses and figures, and `blocks`, the share that ran."""
        names = model.blocks
        chosen = draws.coins(len(names), probability=self.probability, stream=_STREAM)
        run = dict(zip(names, tf.unstack(chosen), strict=True))
        loss, figures = self.objective(functools.partial(model, run=run), batch, draws)
        share = tf.reduce_mean(tf.cast(chosen, tf.float32))
        return loss, {**figures, "blocks": share * tf.ones_like(loss)}
