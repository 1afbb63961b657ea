"""Every sampler against the scheduler of diffusers, step by step, on a fixed network."""

import diffusers
import numpy as np
import pytest
import torch

from tfsnap.config import ScheduleConfig
from tfsnap.diffusion.denoiser import Denoiser
from tfsnap.diffusion.paths import Spacing, Step
from tfsnap.diffusion.samplers import SAMPLERS
from tfsnap.diffusion.sampling import sample
from tfsnap.diffusion.schedule import NoiseSchedule

SHAPE = (2, 6, 5, 4)
RNG = np.random.default_rng(3)
MIX = RNG.standard_normal([4, 4]) / 2
SHIFT = RNG.standard_normal(4) / 2

SCHEDULERS = {
    "ddim": (diffusers.DDIMScheduler, {"clip_sample": False}),
    "dpmpp_2m": (diffusers.DPMSolverMultistepScheduler, {}),
    "dpmpp_2m_karras": (diffusers.DPMSolverMultistepScheduler, {"use_karras_sigmas": True}),
    "euler": (diffusers.EulerDiscreteScheduler, {}),
    "euler_ancestral": (diffusers.EulerAncestralDiscreteScheduler, {}),
    "lcm": (diffusers.LCMScheduler, {"clip_sample": False}),
    "pndm": (diffusers.PNDMScheduler, {"skip_prk_steps": True}),
}
WITH_END = ("ddim", "pndm")  # Those that know `set_alpha_to_one`.
VARIANCE_EXPLODING = ("euler", "euler_ancestral")  # diffusers' latent is z / alpha.
PREDICTIONS = {"epsilon": "epsilon", "v": "v_prediction"}
ALL = 250  # Training steps of a schedule whose every step is sampled.
TOLERANCE = 1e-5  # Of the range: diffusers' tables are float32.


def network(z, t):
    """Nonlinear in the latent and dependent on time, like a network; float64."""
    return np.tanh(z @ MIX + SHIFT * np.cos(t / 300)) + 0.3 * z


def scheduler_of(name, parametrisation, spacing, steps):
    kind, options = SCHEDULERS[name]
    if name in WITH_END:
        options = {**options, "set_alpha_to_one": spacing.end < 0}
    return kind(
        num_train_timesteps=steps,
        beta_start=0.00085,
        beta_end=0.012,
        beta_schedule="scaled_linear",
        prediction_type=PREDICTIONS[parametrisation],
        timestep_spacing=spacing.kind,
        steps_offset=spacing.offset,
        **options,
    )


def noise_of(step):
    return np.random.default_rng(step).standard_normal(SHAPE)


def theirs(name, scheduler, noise, sampling_steps, monkeypatch):
    """The times that diffusers tells the network, and its latents from the start on."""
    draws = iter(range(sampling_steps))
    for module in ("lcm", "euler_ancestral_discrete"):
        monkeypatch.setattr(
            f"diffusers.schedulers.scheduling_{module}.randn_tensor",
            lambda *_, **__: torch.from_numpy(noise_of(next(draws))),
        )
    scheduler.set_timesteps(sampling_steps)
    z = torch.from_numpy(noise) * scheduler.init_noise_sigma
    times, latents = [], [z]
    for t in scheduler.timesteps:
        told = scheduler.scale_model_input(z, t)
        times.append(float(t))
        output = torch.from_numpy(network(told.double().numpy(), float(t)))
        z = scheduler.step(output, t, z).prev_sample
        latents.append(z)
    return times, [latent.double().numpy() for latent in latents]


def ours(name, parametrisation, spacing, noise, sampling_steps, schedule):
    sampler = SAMPLERS[name]
    path = sampler.path(schedule, sampling_steps, spacing)
    z = noise * sampler.start_scale(path, spacing)
    times, latents = [], [z]

    def evaluate(z, t):
        times.append(t)
        return network(z, t)

    sample(
        sampler.method,
        Denoiser(evaluate, parametrisation),
        z,
        path=path,
        noise=noise_of,
        callback=lambda done, of, latent: latents.append(latent),
    )
    if name in VARIANCE_EXPLODING:
        points = [path[0].start, *(step.end for step in path)]
        latents = [z / point.alpha for z, point in zip(latents, points, strict=True)]
    return times, latents


def assert_equal(name, found, expected):
    (times, latents), (their_times, their_latents) = found, expected
    np.testing.assert_allclose(times, their_times, atol=1e-4)
    if name == "pndm" and len(times) > 1:  # The repeated first step counts as two.
        del their_latents[1]
    for latent, their_latent in zip(latents, their_latents, strict=True):
        scale = np.abs(their_latent).max()
        np.testing.assert_allclose(latent / scale, their_latent / scale, atol=TOLERANCE)


# With linspace diffusers' DDIM and PNDM step from t to t - steps // sampling_steps, which is not
# the next time unless every training step is visited. And not 30, for which a time of DPM-Solver is
# halfway between two training steps, up to a rounding error that decides.
CASES = [
    (name, kind, sampling_steps)
    for name in SCHEDULERS
    for kind, sampling_steps in [
        ("trailing", 1),
        ("trailing", 8),
        ("trailing", 50),
        ("leading", 8),
        ("leading", 30),
        ("linspace", ALL if name in WITH_END else 25),
    ]
    if not (name == "dpmpp_2m_karras" and sampling_steps == 1)  # Divides 0 by 0 in diffusers.
    if not (name == "lcm" and kind != "trailing")  # Has times of its own.
]


@pytest.mark.parametrize("parametrisation", ["epsilon", "v"])
@pytest.mark.parametrize(("name", "kind", "sampling_steps"), CASES)
def test_every_step_is_that_of_diffusers(name, kind, sampling_steps, parametrisation, monkeypatch):
    offset = int(kind == "leading")
    end = 0 if offset and name in WITH_END else -1  # As in Stable Diffusion's scheduler_config.
    spacing = Spacing(kind, offset, end)
    noise = np.random.default_rng(0).standard_normal(SHAPE)
    steps = ALL if sampling_steps == ALL else 1000
    scheduler = scheduler_of(name, parametrisation, spacing, steps)
    expected = theirs(name, scheduler, noise, sampling_steps, monkeypatch)
    schedule = NoiseSchedule(ScheduleConfig(steps=steps))
    found = ours(name, parametrisation, spacing, noise, sampling_steps, schedule)
    assert_equal(name, found, expected)


# Numbers of steps for which diffusers' steps do not join.
APART = [("linspace", 12), ("trailing", 30)]


@pytest.mark.parametrize(("kind", "sampling_steps"), APART)
@pytest.mark.parametrize("parametrisation", ["epsilon", "v"])
def test_ddim_step_by_step_where_steps_do_not_join(
    kind, sampling_steps, parametrisation, monkeypatch
):
    """Each step is diffusers' once it ends where diffusers' does."""
    spacing, schedule = Spacing(kind), NoiseSchedule()
    scheduler = scheduler_of("ddim", parametrisation, spacing, schedule.steps)
    noise = np.random.default_rng(0).standard_normal(SHAPE)
    times, latents = theirs("ddim", scheduler, noise, sampling_steps, monkeypatch)
    path = SAMPLERS["ddim"].path(schedule, sampling_steps, spacing)
    assert times == [step.start.t for step in path]
    for t, z, expected in zip(times, latents[:-1], latents[1:], strict=True):
        end = max(t - 1000 // sampling_steps, -1)
        path = (Step(schedule.point(t), schedule.point(end)),)
        found = sample(SAMPLERS["ddim"].method, Denoiser(network, parametrisation), z, path=path)
        np.testing.assert_allclose(found, expected, atol=TOLERANCE * np.abs(expected).max())


@pytest.mark.parametrize(("kind", "sampling_steps"), APART)
@pytest.mark.parametrize("parametrisation", ["epsilon", "v"])
def test_pndm_step_by_step_where_steps_do_not_join(
    kind, sampling_steps, parametrisation, monkeypatch
):
    """From the second step on; the first, done twice, is at three times that disagree there."""
    spacing, schedule = Spacing(kind), NoiseSchedule()
    scheduler = scheduler_of("pndm", parametrisation, spacing, schedule.steps)
    noise = np.random.default_rng(0).standard_normal(SHAPE)
    times, latents = theirs("pndm", scheduler, noise, sampling_steps, monkeypatch)
    denoiser, history = Denoiser(network, parametrisation), (network(latents[0], times[0]),)
    for t, z, expected in zip(times[2:], latents[2:-1], latents[3:], strict=True):
        end = max(t - 1000 // sampling_steps, -1)
        step = Step(schedule.point(t), schedule.point(end))
        found, history = SAMPLERS["pndm"].method(denoiser, z, step=step, history=history)
        np.testing.assert_allclose(found, expected, atol=TOLERANCE * np.abs(expected).max())
    assert len(history) == 4


@pytest.mark.parametrize("name", SCHEDULERS)
def test_a_short_schedule_is_sampled_alike(name, monkeypatch):
    spacing = Spacing("trailing")
    noise = np.random.default_rng(1).standard_normal(SHAPE)
    expected = theirs(name, scheduler_of(name, "v", spacing, 100), noise, 10, monkeypatch)
    schedule = NoiseSchedule(ScheduleConfig(steps=100))
    assert_equal(name, ours(name, "v", spacing, noise, 10, schedule), expected)


@pytest.mark.parametrize("name", SAMPLERS)
def test_a_sampler_says_how_often_it_evaluates_the_network(name):
    schedule, calls = NoiseSchedule(ScheduleConfig()), []
    sampler = SAMPLERS[name]
    path = sampler.path(schedule, 6, Spacing(sampler.spacing))
    denoiser = Denoiser(lambda z, t: calls.append(t) or network(z, t), "epsilon")
    sample(sampler.method, denoiser, noise_of(0), path=path, noise=noise_of)
    assert len(calls) == 6 + sampler.more
