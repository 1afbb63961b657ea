"""Consistency distillation against float64 numpy, written from the papers."""

import numpy as np
import pytest
import tensorflow as tf

from tests.objectives.toy_networks import (
    DENOISE,
    DRAWS,
    TWICE,
    Network,
    amplitudes,
    guided,
    scale_of,
)
from tfsnap.diffusion.consistency import consistent
from tfsnap.objectives.base import Draws
from tfsnap.objectives.consistency import Consistency
from tfsnap.objectives.guidance import CfgAware, once, told
from tfsnap.objectives.step_distill import Teacher


def epsilon(network, z, t, context, scale=None):
    """Of a network that predicts v."""
    alpha, sigma = amplitudes(t)
    return alpha * guided(network, z, t, context, scale) + sigma * z


def psi(teacher, z, t, s, context):
    """The change that a DDIM step makes from t to s (LCM, section 4.2)."""
    (alpha_t, sigma_t), (alpha_s, sigma_s) = amplitudes(t), amplitudes(s)
    eps = epsilon(teacher, z, t, context)
    return alpha_s / alpha_t * z - (sigma_t * alpha_s / alpha_t - sigma_s) * eps - z


def boundary(student, z, t, context, scale):
    """f = c_skip z + c_out (z - sigma eps) / alpha (LCM, section 4.1)."""
    (alpha, sigma), time = amplitudes(t), 10.0 * t.reshape(-1, 1, 1, 1)
    x = (z - sigma * epsilon(student, z, t, context, scale)) / alpha
    return 0.25 / (time**2 + 0.25) * z + time / np.sqrt(time**2 + 0.25) * x


def times(draws):
    return 20 * (50 - draws.integers(high=50, stream=10).numpy()) - 1


def twin(student, target, teacher, batch, *, scale, student_scale, draws=DRAWS):
    """Algorithm 1 of LCM with the Huber loss of its code; w there is one less than here."""
    mean, logvar = np.split(batch["moments"].astype(np.float64), 2, axis=-1)
    context = batch["context"].astype(np.float64)
    noise = [draws.normal([2, 2, 4], stream=s).numpy().astype(np.float64) for s in (12, 11)]
    t = times(draws)
    s = np.maximum(t - 20, 0)
    alpha, sigma = amplitudes(t)
    z = alpha * (mean + np.exp(logvar / 2) * noise[0]) * 0.9 + sigma * noise[1]
    step = psi(teacher, z, t, s, context)
    if scale is not None:
        null = np.broadcast_to(TWICE.null_context, context.shape).astype(np.float64)
        step = (1 + (scale - 1)) * step - (scale - 1) * psi(teacher, z, t, s, null)
    goal = boundary(target, z + step, s, context, student_scale)
    error = boundary(student, z, t, context, student_scale) - goal
    return (np.sqrt(error**2 + 0.001**2) - 0.001).mean(axis=(1, 2, 3))


@pytest.mark.parametrize("student_is", ["plain", "baked", "told"])
@pytest.mark.parametrize("last", [False, True])
def test_it_is_that_of_the_papers(batch, student_is, last):
    """Also in the solver's last step, to t = 0."""
    seeds = (Draws(seed=np.array([7, k], np.int32), rows=4) for k in range(100))
    draws = next(found for found in seeds if (times(found).min() == 19) == last)
    student, teacher = Network(0.3), Network(0.7)
    cfg, scale, student_scale = None, None, None
    if student_is == "baked":
        cfg, scale = CfgAware(3.0, 3.0, teacher=TWICE, student=once), scale_of(3.0, 3.0, draws)
    elif student_is == "told":
        cfg, scale = CfgAware(2.0, 9.0, teacher=TWICE, student=told), scale_of(2.0, 9.0, draws)
        student_scale = (scale,)
    loss, figures = Consistency(DENOISE, Teacher(teacher, "v"), cfg)(student, batch, draws)
    scales = {"scale": scale, "student_scale": student_scale}
    expected = twin(student, student, teacher, batch, **scales, draws=draws)
    np.testing.assert_allclose(loss, expected, rtol=1e-3)
    np.testing.assert_array_equal(figures["consistency"], loss)
    assert student.rows == [4, 4] and teacher.rows == [4 if cfg is None else 8]


def test_the_target_and_the_teacher_do_not_learn(batch):
    student, teacher = Network(0.3), Network(0.7)
    with tf.GradientTape() as tape:
        loss, _ = Consistency(DENOISE, Teacher(teacher, "v"))(student, batch, DRAWS)
        total = tf.reduce_sum(loss)
    found = tape.gradient(total, [student.gain, teacher.gain])
    assert found[1] is None
    fixed = Network(0.3)

    def of(gain):
        return twin(Network(gain), fixed, teacher, batch, scale=None, student_scale=None).sum()

    np.testing.assert_allclose(found[0], (of(0.301) - of(0.299)) / 0.002, rtol=5e-3)


def test_at_time_0_the_latent_is_the_answer():
    z = np.random.default_rng(0).standard_normal([2, 3])
    np.testing.assert_array_equal(consistent(x=z + 7.0, z_t=z, t=0.0), z)
    far = consistent(x=z + 7.0, z_t=z, t=999.0)
    np.testing.assert_allclose(far, z + 7.0, atol=1e-5)


@pytest.mark.parametrize("changes", [{"student": TWICE}, {"probability": 0.5}])
def test_one_evaluation_is_all_that_a_student_has(changes):
    cfg = CfgAware(3.0, 3.0, **{"teacher": TWICE, "student": once, **changes})
    with pytest.raises(ValueError, match="baked in or is told the scale, in every step"):
        Consistency(DENOISE, Teacher(Network(0.7), "v"), cfg)
