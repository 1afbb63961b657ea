"""CLIP's loss."""

import dataclasses
from collections.abc import Callable
from typing import ClassVar

import tensorflow as tf
import tf_keras as keras

from tfsnap.objectives.base import Batch, Draws, Losses

MAX_LOGIT_SCALE = 4.6052  # log(100), where CLIP clips its temperature.


@dataclasses.dataclass(frozen=True)
class Contrastive:
    """Symmetric cross-entropy between images and captions over the global batch.

    Embeddings are gathered from all replicas, so the loss of a row does not depend on how the batch
    is split.

    Attributes:
      label_smoothing: share of the target spread evenly over all rows.

    Batch: `image`, float [B, R, R, 3] in [-1, 1]; `tokens`, int32 [B, T].

    Reference: Radford et al. 2021 (arXiv 2103.00020), figure 3.
    """

    separable: ClassVar[bool] = False

    label_smoothing: float = 0.0

    def __call__(self, model: keras.Model, batch: Batch, draws: Draws) -> Losses:
        """Returns the loss of each row and `top1`, 1 where the caption found its image."""
        image, text = model(batch["image"], tokens=batch["tokens"])
        image, text = tf.cast(image, tf.float32), tf.cast(text, tf.float32)
        scale = tf.exp(_clipped(tf.convert_to_tensor(model.logit_scale)))
        rows = draws.first + tf.range(draws.rows)
        every = draws.total or draws.rows
        target = tf.one_hot(rows, every)
        target = target * (1.0 - self.label_smoothing) + self.label_smoothing / every
        to_text = scale * tf.matmul(image, _gathered(text, draws), transpose_b=True)
        to_image = scale * tf.matmul(text, _gathered(image, draws), transpose_b=True)
        losses = [
            tf.nn.softmax_cross_entropy_with_logits(labels=target, logits=logits)
            for logits in (to_text, to_image)
        ]
        found = tf.equal(tf.argmax(to_image, axis=-1, output_type=tf.int32), rows)
        return 0.5 * (losses[0] + losses[1]), {"top1": tf.cast(found, tf.float32)}


@tf.custom_gradient
def _clipped(logit_scale: tf.Tensor) -> tuple[tf.Tensor, Callable[[tf.Tensor], tf.Tensor]]:
    """The scale, at most `MAX_LOGIT_SCALE`; beyond it, it learns to come back and no further.

    CLIP sets the variable itself back to the limit. The gradient of a minimum alone would be zero
    for what is once beyond, and keep it there.
    """

    def gradient(upstream: tf.Tensor) -> tf.Tensor:
        beyond = logit_scale > MAX_LOGIT_SCALE
        return tf.where(beyond, tf.maximum(upstream, 0.0), upstream)

    return tf.minimum(logit_scale, MAX_LOGIT_SCALE), gradient


def _gathered(x: tf.Tensor, draws: Draws) -> tf.Tensor:
    """All replicas' rows, [total, C]."""
    if not draws.split:
        return x
    return tf.distribute.get_replica_context().all_gather(x, axis=0)
