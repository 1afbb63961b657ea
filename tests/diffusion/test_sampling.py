"""DDIM on a case with a closed form: data that is normal, so the perfect denoiser is known."""

import numpy as np
import pytest

from tfsnap.diffusion import sampling
from tfsnap.diffusion.denoiser import Denoiser
from tfsnap.diffusion.guidance import guide
from tfsnap.diffusion.paths import Spacing, spaced_path
from tfsnap.diffusion.process import add_noise, from_epsilon, from_velocity, interpret, velocity
from tfsnap.diffusion.schedule import NoiseSchedule

SCHEDULE = NoiseSchedule()
DEVIATION = 0.5  # Data is normal with this standard deviation and mean 1.
MEAN = 1.0


def perfect(z, t):
    """E[eps | z_t] for normal data."""
    alpha, sigma = SCHEDULE.alpha(int(t)), SCHEDULE.sigma(int(t))
    return sigma * (z - alpha * MEAN) / ((alpha * DEVIATION) ** 2 + sigma**2)


def sample(steps, z, **options):
    path = spaced_path(SCHEDULE, steps, Spacing())
    return sampling.sample(sampling.ddim, Denoiser(perfect, "epsilon"), z, path=path, **options)


def test_ddim_converges_to_the_flow_of_normal_data():
    """The probability flow maps z_T to mean + deviation * (z_T - alpha_T mean) / std(z_T)."""
    z = np.linspace(-2, 2, 9)
    alpha, sigma = SCHEDULE.alpha(999), SCHEDULE.sigma(999)
    exact = MEAN + DEVIATION * (z - alpha * MEAN) / np.hypot(alpha * DEVIATION, sigma)
    errors = [np.abs(sample(steps, z) - exact).max() for steps in (10, 100, 1000)]
    assert errors[0] > 3 * errors[1] > 6 * errors[2]
    assert errors[2] < 6e-3  # What is left is the last step, from sigma_0 = 0.03 to 0.


def test_a_single_step_is_the_posterior_mean():
    z = np.array([0.3])
    x = (z - SCHEDULE.sigma(999) * perfect(z, 999)) / SCHEDULE.alpha(999)
    np.testing.assert_allclose(sample(1, z), x)


def test_predictions_are_three_ways_of_writing_one_estimate():
    rng = np.random.default_rng(0)
    x, eps = rng.standard_normal([2, 5])
    alpha, sigma = SCHEDULE.alpha(300), SCHEDULE.sigma(300)
    z = add_noise(x=x, eps=eps, alpha=alpha, sigma=sigma)
    v = velocity(x=x, eps=eps, alpha=alpha, sigma=sigma)
    for prediction in (
        from_epsilon(z_t=z, eps=eps, alpha=alpha, sigma=sigma),
        from_velocity(z_t=z, v=v, alpha=alpha, sigma=sigma),
        interpret("v", z_t=z, output=v, alpha=alpha, sigma=sigma),
        interpret("epsilon", z_t=z, output=eps, alpha=alpha, sigma=sigma),
    ):
        np.testing.assert_allclose(prediction.x, x, atol=1e-12)
        np.testing.assert_allclose(prediction.eps, eps, atol=1e-12)
        np.testing.assert_allclose(prediction.v, v, atol=1e-12)
    with pytest.raises(ValueError, match="'sample'"):
        interpret("sample", z_t=z, output=x, alpha=alpha, sigma=sigma)


def test_guidance_extrapolates_from_the_unconditional():
    c, u = np.array([2.0]), np.array([1.0])
    assert guide(conditional=c, unconditional=u, scale=1.0) == 2.0
    assert guide(conditional=c, unconditional=u, scale=3.0) == 3 * 2.0 - 2 * 1.0


def test_callback_hears_of_every_step():
    heard = []
    z = sample(3, np.ones(2), callback=lambda done, steps, z: heard.append((done, steps, z)))
    assert [(done, steps) for done, steps, _ in heard] == [(1, 3), (2, 3), (3, 3)]
    np.testing.assert_array_equal(heard[-1][2], z)


def test_what_is_projected_is_gone_on_with():
    places = []

    def project(z, point):
        places.append(point.t)
        return z + 1.0 if point.t == -1 else z * 0.0

    z = sample(3, np.ones(2), project=project)
    last = SCHEDULE.point(332)  # 1000 - 2 / 3 of 1000, less one.
    expected = perfect(np.zeros(2), 332)
    np.testing.assert_allclose(z, -last.sigma * expected / last.alpha + 1.0)
    assert places == [666, 332, -1]
