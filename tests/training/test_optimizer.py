import numpy as np
import pytest
import tensorflow as tf

from tfsnap.training.config import OptimizerConfig
from tfsnap.training.optimizer import WarmupCosine, WeightAverage, build_optimizer, optimizer_state


def test_learning_rate_warms_up_and_decays():
    config = OptimizerConfig(learning_rate=2.0, warmup_steps=4, final_fraction=0.1)
    rate = WarmupCosine(config, steps=104)
    assert float(rate(0)) == pytest.approx(0.5)
    assert float(rate(3)) == pytest.approx(2.0)
    assert float(rate(54)) == pytest.approx(2.0 * (0.1 + 0.9 * 0.5))
    assert float(rate(104)) == pytest.approx(0.2)


def adamw_in_float64(w, gradients, c, rates, decayed):
    """AdamW as in Loshchilov & Hutter, algorithm 2, with a global norm of one tensor."""
    m = v = np.zeros_like(w)
    for i, (g, rate) in enumerate(zip(gradients, rates, strict=True), start=1):
        g = g * min(1.0, c.clip_norm / np.linalg.norm(g))
        m, v = c.beta_1 * m + (1 - c.beta_1) * g, c.beta_2 * v + (1 - c.beta_2) * g * g
        m_hat, v_hat = m / (1 - c.beta_1**i), v / (1 - c.beta_2**i)
        w = w - rate * m_hat / (np.sqrt(v_hat) + 1e-7) - decayed * rate * c.weight_decay * w
    return w


@pytest.mark.parametrize(("name", "decayed"), [("a/dense/kernel", True), ("a/dense/bias", False)])
def test_updates_equal_a_float64_twin(name, decayed):
    config = OptimizerConfig(learning_rate=0.1, warmup_steps=2, weight_decay=0.5, clip_norm=1.0)
    rng = np.random.default_rng(0)
    start = rng.standard_normal(5)
    gradients = rng.standard_normal([6, 5])
    variable = tf.Variable(start.astype(np.float32), name=name)
    optimizer = build_optimizer(config, steps=6, variables=[variable])
    for g in gradients:
        optimizer.apply_gradients([(tf.constant(g, tf.float32), variable)])
    rates = [float(WarmupCosine(config, 6)(i)) for i in range(6)]
    wanted = adamw_in_float64(start, gradients, config, rates, decayed)
    np.testing.assert_allclose(variable, wanted, rtol=1e-4, atol=1e-5)


def test_optimizer_state_is_named_by_address():
    variables = [tf.Variable([1.0], name="net/down.0.conv/kernel"), tf.Variable(1.0, name="scale")]
    optimizer = build_optimizer(OptimizerConfig(), steps=1, variables=variables)
    names = set(optimizer_state(optimizer))
    assert names == {
        "iteration",
        "m.down.0.conv.kernel",
        "v.down.0.conv.kernel",
        "m.scale",
        "v.scale",
    }


def test_average_warms_up_then_decays():
    w = tf.Variable([0.0], name="net/dense/kernel")
    average = WeightAverage([w, tf.Variable(1.0, name="logit_scale")], decay=0.5)
    assert set(average.variables) == {"dense.kernel", "logit_scale"}
    expected = 0.0
    for step in range(20):
        w.assign([float(step)])
        average.update(tf.constant(step))
        decay = min(0.5, (1 + step) / (10 + step))
        expected = decay * expected + (1 - decay) * step
    np.testing.assert_allclose(average.variables["dense.kernel"], [expected], rtol=1e-5)
    average.swap()
    np.testing.assert_allclose(w, [expected], rtol=1e-5)
    average.swap()
    np.testing.assert_allclose(w, [19.0])


def test_without_decay_there_are_no_averages():
    w = tf.Variable([2.0], name="net/dense/kernel")
    average = WeightAverage([w], decay=0.0)
    assert average.variables == {}
    average.update(tf.constant(3))
    average.start()
    average.swap()
    np.testing.assert_array_equal(w, [2.0])
