import numpy as np
import tensorflow as tf

from tfsnap.layers.separable import SeparableBlock


def test_a_new_block_is_the_identity():
    x = tf.constant(np.random.default_rng(0).standard_normal([2, 5, 4, 6]), tf.float32)
    np.testing.assert_array_equal(SeparableBlock(6, name="block")(x), x)


def test_it_is_depthwise_then_pointwise_around_a_relu():
    rng = np.random.default_rng(0)
    x = rng.standard_normal([1, 4, 5, 3])
    block = SeparableBlock(3, expansion=4, name="block")
    block(tf.zeros(x.shape))
    values = {v.name.split(":")[0]: rng.standard_normal(v.shape) for v in block.variables}
    for variable in block.variables:
        variable.assign(values[variable.name.split(":")[0]])
    parts = {name.split("block.", 1)[1]: value for name, value in values.items()}
    padded = np.pad(x, [(0, 0), (1, 1), (1, 1), (0, 0)])
    kernel = parts["depthwise/depthwise_kernel"][..., 0]  # [3, 3, C]
    h = sum(padded[:, i : i + 4, j : j + 5] * kernel[i, j] for i in range(3) for j in range(3))
    h = (h + parts["depthwise/bias"]) @ parts["expand/kernel"][0, 0] + parts["expand/bias"]
    h = np.maximum(h, 0.0) @ parts["project/kernel"][0, 0] + parts["project/bias"]
    np.testing.assert_allclose(block(tf.constant(x, tf.float32)), x + h, atol=1e-4)


def test_its_config_makes_it_again():
    config = SeparableBlock(6, expansion=3, name="block").get_config()
    again = SeparableBlock.from_config(config)
    assert (again.channels, again.expansion, again.name) == (6, 3, "block")
