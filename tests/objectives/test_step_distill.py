"""Step distillation against a second implementation in float64 numpy, written from the paper."""

import dataclasses

import numpy as np
import pytest
import tensorflow as tf

from tests.objectives.toy_networks import (
    DENOISE,
    DRAWS,
    TWICE,
    Network,
    Rewritten,
    amplitudes,
    guided,
    scale_of,
)
from tfsnap.objectives.base import Draws
from tfsnap.objectives.guidance import CfgAware, once, told
from tfsnap.objectives.points import Amplitudes
from tfsnap.objectives.step_distill import (
    StepDistill,
    Teacher,
    rescaled,
    step_target,
    truncated_snr,
)


def trailing(n):
    """Times of n steps and the end."""
    return np.append(np.round(1000 - np.arange(n) * 1000 / n) - 1, -1).astype(int)


def twin(student, teacher, batch, *, steps, each, scale, student_scale):
    """L_dstl of paper.md, section 4: items 2 to 4, for velocities."""
    mean, logvar = np.split(batch["moments"].astype(np.float64), 2, axis=-1)
    context = batch["context"].astype(np.float64)
    noise = [DRAWS.normal([2, 2, 4], stream=s).numpy().astype(np.float64) for s in (12, 11)]
    x = (mean + np.exp(logvar / 2) * noise[0]) * 0.9
    step = DRAWS.integers(high=steps, stream=10).numpy()
    times = trailing(steps * each)
    alpha, sigma = amplitudes(times[step * each])
    z_t = z = alpha * x + sigma * noise[1]
    for place in range(each):
        t, t1 = times[step * each + place], times[step * each + place + 1]
        (a, s), (a1, s1) = amplitudes(t), amplitudes(t1)
        v = guided(teacher, z, t, context, scale)
        z = a1 * (a * z - s * v) + s1 * (s * z + a * v)
    a2, s2 = amplitudes(times[(step + 1) * each])
    target = (z - s2 / sigma * z_t) / (a2 - s2 / sigma * alpha)
    mine = alpha * z_t - sigma * guided(student, z_t, times[step * each], context, student_scale)
    weight = np.maximum(alpha**2 / sigma**2, 1.0)
    return (weight * (mine - target) ** 2).mean(axis=(1, 2, 3))


@pytest.mark.parametrize(("steps", "each"), [(8, 2), (1, 2), (8, 1), (16, 4), (4, 8)])
def test_vanilla_distillation_is_that_of_the_paper(batch, steps, each):
    student, teacher = Network(0.3), Network(0.7)
    objective = StepDistill(DENOISE, Teacher(teacher, "v", each), steps, gamma=0.0)
    loss, figures = objective(student, batch, DRAWS)
    expected = twin(student, teacher, batch, steps=steps, each=each, scale=None, student_scale=None)
    np.testing.assert_allclose(loss, expected, rtol=2e-4, atol=1e-6)
    np.testing.assert_array_equal(figures["distill"], loss)
    assert teacher.rows == [4] * each and student.rows == [4]


@pytest.mark.parametrize("baked", [False, True])
def test_guidance_takes_the_place_of_every_velocity(batch, baked):
    student, teacher = Network(0.3), Network(0.7)
    cfg = CfgAware(2.0, 14.0, teacher=TWICE, student=once if baked else TWICE)
    objective = StepDistill(DENOISE, Teacher(teacher, "v", 2), 8, cfg, gamma=0.0)
    loss, _ = objective(student, batch, DRAWS)
    scale = scale_of(2.0, 14.0)
    assert 2.0 < scale.min() < scale.max() < 14.0 and len(np.unique(scale)) == 4
    student_scale = None if baked else scale
    expected = twin(
        student, teacher, batch, steps=8, each=2, scale=scale, student_scale=student_scale
    )
    np.testing.assert_allclose(loss, expected, rtol=5e-4)
    # Both evaluations are one batch; with guidance baked in, the student's is one evaluation.
    assert teacher.rows == [8, 8] and student.rows == [4 if baked else 8]


@pytest.mark.parametrize(("steps", "each", "reads"), [(1000, 1, False), (8, 2, True)])
def test_a_student_is_told_the_scale(batch, steps, each, reads):
    """Meng et al.: stage one at any time, from two evaluations; stage two, from one as well."""
    student, teacher = Network(0.3), Network(0.7)
    cfg = CfgAware(2.0, 14.0, teacher=told if reads else TWICE, student=told)
    objective = StepDistill(DENOISE, Teacher(teacher, "v", each), steps, cfg, gamma=0.0)
    loss, _ = objective(student, batch, DRAWS)
    scale = scale_of(2.0, 14.0)
    expected = twin(
        student,
        teacher,
        batch,
        steps=steps,
        each=each,
        scale=(scale,) if reads else scale,
        student_scale=(scale,),
    )
    np.testing.assert_allclose(loss, expected, rtol=1e-3)
    assert student.rows == [4] and teacher.rows == [4 if reads else 8] * each


def test_stage_one_is_the_loss_of_the_guided_x(batch):
    """max(snr, 1) || x_w(z_t, w) - x(z_t, w) ||^2: no step is left in it (Meng et al.)."""
    student, teacher = Network(0.3), Network(0.7)
    cfg = CfgAware(2.0, 14.0, teacher=TWICE, student=told)
    loss, _ = StepDistill(DENOISE, Teacher(teacher, "v", 1), 1000, cfg, gamma=0.0)(
        student, batch, DRAWS
    )
    mean, logvar = np.split(batch["moments"].astype(np.float64), 2, axis=-1)
    noise = [DRAWS.normal([2, 2, 4], stream=s).numpy().astype(np.float64) for s in (12, 11)]
    t = 999 - DRAWS.integers(high=1000, stream=10).numpy()
    (alpha, sigma), w = amplitudes(t), scale_of(2.0, 14.0)
    z = alpha * (mean + np.exp(logvar / 2) * noise[0]) * 0.9 + sigma * noise[1]
    context = batch["context"].astype(np.float64)
    error = sigma * (guided(teacher, z, t, context, w) - guided(student, z, t, context, (w,)))
    expected = (np.maximum(alpha**2 / sigma**2, 1.0) * error**2).mean(axis=(1, 2, 3))
    np.testing.assert_allclose(loss, expected, rtol=2e-3)


def test_a_step_is_with_guidance_as_often_as_it_should(batch):
    student, teacher = Network(0.3), Network(0.7)
    cfg = CfgAware(2.0, 14.0, teacher=TWICE, student=TWICE, probability=0.25)
    parts = [
        dataclasses.replace(objective, cfg=kind)
        for objective in [StepDistill(DENOISE, Teacher(teacher, "v", 2), 8, gamma=0.0)]
        for kind in (cfg, None, dataclasses.replace(cfg, probability=1.0))
    ]
    counts = [0, 0]
    for number in range(60):
        draws = Draws(seed=tf.constant([1, number]), rows=4)
        mixed, plain, always = (objective(student, batch, draws)[0].numpy() for objective in parts)
        counts[0] += np.array_equal(mixed, plain)
        counts[1] += np.array_equal(mixed, always)
    assert sum(counts) == 60 and 5 <= counts[1] <= 27


def test_what_the_teacher_already_does_costs_nothing(batch):
    network = Network(0.7)
    objective = StepDistill(DENOISE, Teacher(network, "v", 1), 8, gamma=0.0)
    loss, _ = objective(network, batch, DRAWS)
    np.testing.assert_allclose(loss, 0.0, atol=1e-9)


def test_one_step_to_the_target_ends_where_the_teacher_ended():
    rng = np.random.default_rng(2)
    z_t, z_end = rng.standard_normal([2, 4, 2, 2, 4])
    start = Amplitudes(*amplitudes(np.array([999, 700, 500, 124])))
    end = Amplitudes(*amplitudes(np.array([874, 575, 374, -1])))
    x = step_target(z_t=z_t, z_end=z_end, start=start, end=end)
    eps = (z_t - start.alpha * x) / start.sigma
    np.testing.assert_allclose(end.alpha * x + end.sigma * eps, z_end, atol=1e-10)


def test_errors_weigh_by_the_signal_but_never_less_than_one():
    start = Amplitudes(tf.constant([0.6, 0.8]), tf.constant([0.8, 0.6]))
    np.testing.assert_allclose(truncated_snr(start), [1.0, (0.8 / 0.6) ** 2], rtol=1e-6)


def test_networks_may_predict_different_things(batch):
    """A teacher that predicts noise, and the same one rewritten as velocities."""
    teacher = Network(0.7)
    student = Network(0.3)
    losses = [
        StepDistill(DENOISE, Teacher(network, kind, 2), 8, gamma=0.0)(student, batch, DRAWS)[0]
        for network, kind in [(teacher, "epsilon"), (Rewritten(0.7), "v")]
    ]
    np.testing.assert_allclose(*losses, rtol=1e-3)


def test_the_original_loss_comes_in_the_size_of_the_other(batch):
    student, teacher = Network(0.3), Network(0.7)
    objective = StepDistill(DENOISE, Teacher(teacher, "v", 2), 8, gamma=0.2)
    with tf.GradientTape(persistent=True) as tape:
        loss, figures = objective(student, batch, DRAWS)
        distill, ori = (tf.reduce_sum(figures[name]) for name in ("distill", "ori"))
        weighted = tf.reduce_sum(
            figures["ori"] * tf.stop_gradient(figures["distill"] / figures["ori"])
        )
        total = tf.reduce_sum(loss)
    expected, _ = DENOISE(student, batch, DRAWS)
    np.testing.assert_allclose(figures["ori"], expected)
    np.testing.assert_allclose(loss, 1.2 * figures["distill"], rtol=1e-6)
    parts = [tape.gradient(value, student.gain) for value in (distill, weighted)]
    np.testing.assert_allclose(
        tape.gradient(total, student.gain), parts[0] + 0.2 * parts[1], rtol=1e-5
    )
    assert tape.gradient(ori, student.gain) is not None


def test_rescaling_changes_the_size_and_not_the_direction():
    x = tf.Variable([3.0, 5.0])
    with tf.GradientTape() as tape:
        value = rescaled(tf.square(x), tf.constant([0.9, 50.0]))
    np.testing.assert_allclose(value, [0.9, 50.0], rtol=1e-6)
    np.testing.assert_allclose(tape.gradient(value, x), [0.9 * 2 / 3, 50.0 * 2 / 5], rtol=1e-6)


def test_the_teacher_does_not_learn(batch):
    student, teacher = Network(0.3), Network(0.7)
    objective = StepDistill(DENOISE, Teacher(teacher, "v", 2), 8, gamma=0.0)
    with tf.GradientTape() as tape:
        loss = tf.reduce_sum(objective(student, batch, DRAWS)[0])
    gradients = tape.gradient(loss, [student.gain, teacher.gain])
    assert gradients[0] is not None and gradients[1] is None


def test_baked_guidance_leaves_no_place_for_the_original_loss():
    cfg = CfgAware(3.0, 3.0, teacher=TWICE, student=once)
    with pytest.raises(ValueError, match="it must be 0 where guidance is baked in"):
        StepDistill(DENOISE, Teacher(Network(0.7), "v", 2), 8, cfg, gamma=0.2)
