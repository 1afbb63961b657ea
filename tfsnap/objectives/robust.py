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

    What sits out is what a network can lose, see `UNetConfig.removable`: a cross-attention, a
    ResNet of the middle, or one of the way down together with its counterpart on the way up, whose
    skip connection is then not read. A step trains the very network that is left when they are
    removed. ResNets that change the number of channels, for which the identity is undefined, always
    run. The choice is one for the whole global batch. It is data, not structure: `tf.cond` picks
    what runs, so that a step is traced and compiled once, and a block that is left out is not
    computed.

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
        """Returns the objective's losses and figures, and `blocks`, the share that ran.

        In a network without blocks that can be left out that is 1.
        """
        rows = model.config.removable
        if not rows:
            loss, figures = self.objective(model, batch, draws)
            return loss, {**figures, "blocks": tf.ones_like(loss)}
        chosen = draws.coins(len(rows), probability=self.probability, stream=_STREAM)
        coins = zip(rows, tf.unstack(chosen), strict=True)
        run = {name: coin for names, coin in coins for name in names}
        loss, figures = self.objective(functools.partial(model, run=run), batch, draws)
        share = tf.reduce_mean(tf.cast(chosen, tf.float32))
        return loss, {**figures, "blocks": share * tf.ones_like(loss)}
