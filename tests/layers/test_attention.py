import numpy as np
import tensorflow as tf
import tf_keras as keras

from tfsnap.layers import attention
from tfsnap.layers.attention import Attention, GegluFeedForward, SpatialTransformer


def test_attention_equals_keras_multi_head_attention():
    rng = np.random.default_rng(0)
    x = tf.constant(rng.standard_normal([2, 5, 12]), tf.float32)
    context = tf.constant(rng.standard_normal([2, 7, 9]), tf.float32)
    ours = Attention(12, heads=3, qkv_bias=True)
    theirs = keras.layers.MultiHeadAttention(num_heads=3, key_dim=4, output_shape=12)
    ours(x, context=context), theirs(x, context)
    for mine, name in [(ours.query, "query"), (ours.key, "key"), (ours.value, "value")]:
        kernel = rng.standard_normal(mine.kernel.shape)
        bias = rng.standard_normal(mine.bias.shape)
        mine.set_weights([kernel, bias])
        dense = getattr(theirs, f"_{name}_dense")
        dense.set_weights([kernel.reshape(-1, 3, 4), bias.reshape(3, 4)])
    kernel = rng.standard_normal(ours.out.kernel.shape)
    ours.out.set_weights([kernel, np.ones(12)])
    theirs._output_dense.set_weights([kernel.reshape(3, 4, 12), np.ones(12)])
    np.testing.assert_allclose(ours(x, context=context), theirs(x, context), atol=1e-4)

    allowed = rng.integers(0, 2, [2, 5, 7])
    allowed[:, :, 0] = 1
    mask = tf.constant(-1e4 * (1 - allowed[:, None]), tf.float32)  # [B, 1, N, M]
    np.testing.assert_allclose(
        ours(x, context=context, mask=mask),
        theirs(x, context, attention_mask=tf.constant(allowed)),
        atol=1e-4,
    )


def test_queries_in_parts_give_the_same_with_fewer_scores(monkeypatch):
    rng = np.random.default_rng(0)
    x = tf.constant(rng.standard_normal([2, 12, 6]), tf.float32)
    layer = Attention(6, heads=2)
    expected = layer(x)

    def largest(function):  # Of all tensors of the graph, in elements of an example.
        graph = tf.function(function).get_concrete_function(x).graph
        shapes = [out.shape for op in graph.get_operations() for out in op.outputs]
        return max(np.prod(shape[1:]) for shape in shapes if shape.rank == 4)

    assert largest(layer.call) == 2 * 12 * 12
    monkeypatch.setattr(attention, "MOST_SCORES", 2 * 12 * 5)  # 5 of 12 queries: thirds are whole.
    np.testing.assert_allclose(layer(x), expected, atol=1e-6)
    assert largest(layer.call) == 2 * 12 * 4


def test_geglu_gates_by_the_second_half():
    layer = GegluFeedForward(3, ratio=2)
    x = np.random.default_rng(0).standard_normal([1, 4, 3]).astype(np.float32)
    layer(tf.constant(x))
    up, down = (d.kernel.numpy() for d in (layer.up, layer.down))
    value, gate = np.split(x @ up, 2, axis=-1)
    gelu = 0.5 * gate * (1 + np.tanh(np.sqrt(2 / np.pi) * (gate + 0.044715 * gate**3)))
    np.testing.assert_allclose(layer(tf.constant(x)), (value * gelu) @ down, atol=1e-5)


def test_a_new_transformer_is_the_identity():
    x = tf.constant(np.random.default_rng(0).standard_normal([1, 2, 3, 8]), tf.float32)
    layer = SpatialTransformer(8, heads=2, groups=4)
    np.testing.assert_array_equal(layer(x, context=tf.ones([1, 5, 6])), x)
    layer.proj_out.kernel.assign(tf.random.stateless_normal([1, 1, 8, 8], [0, 0]))
    assert np.abs(layer(x, context=tf.ones([1, 5, 6])) - x).max() > 0.1
