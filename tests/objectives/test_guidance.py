"""Guidance in a loss."""

import numpy as np
import tensorflow as tf

from tfsnap.objectives.guidance import Twice


class Reader:
    """Says what the text says, in the precision of the text, as a UNet in half precision does."""

    def __call__(self, z, *, timesteps, context):
        text = tf.reduce_mean(context, axis=[1, 2])[:, tf.newaxis, tf.newaxis, tf.newaxis]
        return text * tf.ones_like(z, context.dtype)


def test_embeddings_may_be_of_half_precision():
    context = tf.cast(tf.fill([2, 3, 5], 1.0), tf.bfloat16)
    evaluate = Twice(np.full([3, 5], 0.25, np.float32))
    found = evaluate(Reader(), tf.zeros([2, 4, 4, 4]), tf.zeros([2]), context, tf.fill([2], 3.0))
    assert found.dtype == tf.float32
    np.testing.assert_array_equal(found, np.full([2, 4, 4, 4], 3.0 * 1.0 - 2.0 * 0.25))
