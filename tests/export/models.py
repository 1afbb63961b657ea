"""Models of a few operators, and inputs for them."""

import numpy as np
import tensorflow as tf


def normal(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def convert(path, function, **inputs):
    """Converts a function of float32 tensors to fp16 TFLite; inputs keep the arguments' names."""
    specs = [tf.TensorSpec(value.shape, tf.float32, name=name) for name, value in inputs.items()]
    concrete = tf.function(function, input_signature=specs).get_concrete_function()
    converter = tf.lite.TFLiteConverter.from_concrete_functions([concrete], tf.Module())
    converter.optimizations = [tf.lite.Optimize.DEFAULT]
    converter.target_spec.supported_types = [tf.float16]
    path.write_bytes(converter.convert())
    return path


def convolution_and_group_norm(x):
    x = tf.nn.conv2d(x, normal(3, 3, 8, 16), 1, "SAME")
    groups = tf.reshape(x, [1, 64, 4, 4])  # [B, H*W, G, C/G]
    centred = groups - tf.reduce_mean(groups, [1, 3], keepdims=True)
    variance = tf.reduce_mean(tf.square(centred), [1, 3], keepdims=True)
    x = tf.reshape(centred * tf.math.rsqrt(variance + 1e-5), [1, 8, 8, 16])
    return x * tf.sigmoid(x)


def attention(x):
    heads = (tf.reshape(tf.matmul(x, normal(16, 16, seed=i)), [1, 12, 2, 8]) for i in range(3))
    q, k, v = (tf.transpose(part, [0, 2, 1, 3]) for part in heads)  # [B, heads, T, C/heads]
    weights = tf.nn.softmax(tf.matmul(q, k, transpose_b=True) * 8**-0.5)
    return tf.reshape(tf.transpose(tf.matmul(weights, v), [0, 2, 1, 3]), [1, 12, 16])


def example_inputs(tensors):
    """Random tokens and normal tensors for what a network takes."""
    rng = np.random.default_rng(0)
    return {
        tensor.name: rng.integers(0, 49408, tensor.shape).astype(np.int32)
        if tensor.dtype == "int32"
        else rng.standard_normal(tensor.shape).astype(np.float32)
        for tensor in tensors
    }
