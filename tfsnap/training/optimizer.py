"""AdamW, its learning rate, and the average of the weights that it walks through."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import tensorflow as tf
import tf_keras as keras

from tfsnap.training.config import OptimizerConfig
from tfsnap.weights.store import address

# Weight decay pulls towards zero; these are offsets and scales that belong elsewhere.
NOT_DECAYED = ("bias", "gamma", "beta", "position_embedding", "class_embedding", "logit_scale")


class WarmupCosine(keras.optimizers.schedules.LearningRateSchedule):
    """Linear warm-up, then half a cosine down to a share of the peak.

    Args:
      config: peak, warm-up and final share.
      steps: steps of the whole run.
    """

    def __init__(self, config: OptimizerConfig, steps: int):
        self.config = config
        self.steps = steps

    def __call__(self, step: tf.Tensor | int) -> tf.Tensor:
        """Learning rate of an optimizer step, counted from 0."""
        c = self.config
        step = tf.cast(step, tf.float32)
        warmup = tf.minimum(1.0, (step + 1.0) / max(1, c.warmup_steps))
        after = tf.maximum(0.0, step - c.warmup_steps) / max(1, self.steps - c.warmup_steps)
        cosine = 0.5 * (1.0 + tf.cos(np.pi * tf.minimum(1.0, after)))
        return c.learning_rate * warmup * (c.final_fraction + (1.0 - c.final_fraction) * cosine)

    def get_config(self) -> dict[str, Any]:
        """Returns the constructor's arguments."""
        return {"config": self.config.to_dict(), "steps": self.steps}


def build_optimizer(
    config: OptimizerConfig,
    *,
    steps: int,
    variables: Sequence[tf.Variable],
    scale_loss: bool = False,
) -> keras.optimizers.Optimizer:
    """Builds AdamW with its slots created for `variables`. Call under the strategy's scope.

    Args:
      config: rates, decays and clipping.
      steps: steps of the whole run.
      variables: the weights.
      scale_loss: wrap it so that it scales the loss as float16 needs, Micikevicius et al. 2018
        (arXiv 1710.03740): doubled after 2,000 finite steps, halved and the step dropped otherwise.
    """
    optimizer = keras.optimizers.AdamW(
        learning_rate=WarmupCosine(config, steps),
        weight_decay=config.weight_decay,
        beta_1=config.beta_1,
        beta_2=config.beta_2,
        global_clipnorm=config.clip_norm,
        jit_compile=False,
    )
    exempt = [v for v in variables if address(v).endswith(NOT_DECAYED)]
    optimizer.exclude_from_weight_decay(var_list=exempt)
    optimizer.build(variables)
    return keras.mixed_precision.LossScaleOptimizer(optimizer) if scale_loss else optimizer


def optimizer_state(optimizer: keras.optimizers.Optimizer) -> dict[str, tf.Variable]:
    """The optimizer's slots by name: `m.<address>`, `v.<address>` and `iteration`.

    With a scaled loss also `loss_scale` and `finite_steps`, those since it changed.
    """
    state = {"iteration": optimizer.iterations}
    if isinstance(optimizer, keras.mixed_precision.LossScaleOptimizer):
        # The public property is a tensor, which cannot be restored.
        state["loss_scale"] = optimizer._loss_scale.current_loss_scale
        state["finite_steps"] = optimizer.dynamic_counter
        optimizer = optimizer.inner_optimizer
    for variable in optimizer.variables:
        slot, *path = variable.name.split(":")[0].split("/")
        if slot in ("m", "v"):
            state[".".join([slot, *path[-2:]])] = variable
    return state


class WeightAverage:
    """Exponential moving average of the weights, with a warm-up.

    The decay of update n is min(decay, (1 + n) / (10 + n)), so that early averages forget the
    random start. Create it under the strategy's scope.

    Args:
      variables: the weights to average.
      decay: the decay once warm; 0 keeps no averages, which would be the weights themselves.

    Reference: Polyak & Juditsky 1992; the warm-up is TensorFlow's ExponentialMovingAverage's.
    """

    def __init__(self, variables: Sequence[tf.Variable], decay: float):
        self.decay = decay
        self._pairs = [
            (variable, tf.Variable(variable, trainable=False, name=f"ema/{variable.name[:-2]}"))
            for variable in (variables if decay > 0.0 else ())
        ]

    @property
    def variables(self) -> dict[str, tf.Variable]:
        """The averages by the address of the weight."""
        return {address(variable): average for variable, average in self._pairs}

    def update(self, step: tf.Tensor) -> None:
        """Moves the averages towards the weights after optimizer step `step`, from 0."""
        step = tf.cast(step, tf.float32)
        decay = tf.minimum(self.decay, (1.0 + step) / (10.0 + step))
        for variable, average in self._pairs:
            average.assign_sub((1.0 - decay) * (average - tf.cast(variable, average.dtype)))

    def start(self) -> None:
        """Begins again with the weights as they are now."""
        for variable, average in self._pairs:
            average.assign(variable)

    def swap(self) -> None:
        """Exchanges weights and averages: before and after using the averaged network."""
        for variable, average in self._pairs:
            weight = tf.identity(variable)
            variable.assign(average)
            average.assign(weight)
