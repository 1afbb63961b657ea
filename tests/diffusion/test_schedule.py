import numpy as np
import pytest
from keras_cv.src.models.stable_diffusion.constants import _ALPHAS_CUMPROD

from tfsnap.config import ScheduleConfig
from tfsnap.diffusion.paths import Spacing, dpm_path, lcm_path, lcm_training_path, spaced_path
from tfsnap.diffusion.schedule import NoiseSchedule


def test_schedule_is_stable_diffusions():
    schedule = NoiseSchedule()
    t = np.arange(1000)
    np.testing.assert_allclose(schedule.alpha(t) ** 2, _ALPHAS_CUMPROD, rtol=1e-4)
    assert schedule.alpha(0) ** 2 == pytest.approx(0.99915)
    assert schedule.alpha(999) ** 2 == pytest.approx(0.004660, rel=1e-3)


@pytest.mark.parametrize("kind", ["scaled_linear", "linear"])
def test_variance_is_preserved_and_noise_grows(kind):
    schedule = NoiseSchedule(ScheduleConfig(kind=kind, steps=50))
    t = np.arange(-1, 50)
    np.testing.assert_allclose(schedule.alpha(t) ** 2 + schedule.sigma(t) ** 2, 1.0)
    assert schedule.alpha(-1) == 1.0 and schedule.sigma(-1) == 0.0
    assert np.all(np.diff(schedule.logsnr(t[1:])) < 0)
    assert schedule.logsnr(-1) == np.inf


def times_of(steps, spacing, offset=0):
    path = spaced_path(NoiseSchedule(), steps, Spacing(spacing, offset))
    return np.array([step.start.t for step in path])


@pytest.mark.parametrize(
    ("spacing", "expected"),
    # Lin et al. 2023, table 2, less one: they count steps from 1.
    [("trailing", [999, 899, 799]), ("leading", [900, 800, 700]), ("linspace", [999, 888, 777])],
)
def test_spacing(spacing, expected):
    times = times_of(10, spacing)
    assert list(times[:3]) == expected
    assert len(times) == 10
    assert np.all(np.diff(times) < 0)


@pytest.mark.parametrize("spacing", ["trailing", "leading", "linspace"])
@pytest.mark.parametrize("steps", [1, 7, 8, 333, 1000])
def test_any_number_of_steps_is_distinct_and_in_range(spacing, steps):
    times = times_of(steps, spacing)
    assert len(set(times)) == steps
    assert times.min() >= 0 and times.max() <= 999


def test_bad_spacing_is_explained():
    with pytest.raises(ValueError, match="steps is 0; it must be between 1 and 1000"):
        times_of(0, "trailing")
    with pytest.raises(ValueError, match="'karras'"):
        times_of(4, "karras")
    with pytest.raises(ValueError, match="beta_end is 1.5"):
        ScheduleConfig(beta_end=1.5)


def test_points_lie_on_the_schedule_and_between_its_steps():
    schedule = NoiseSchedule()
    for t in (0, 1, 500, 999):
        point = schedule.point(t)
        np.testing.assert_allclose(point, (t, schedule.alpha(t), schedule.sigma(t)), rtol=1e-12)
    between = schedule.point(500.25)
    expected = 0.75 * schedule.point(500).ratio + 0.25 * schedule.point(501).ratio
    assert between.ratio == pytest.approx(expected)
    assert between.alpha**2 + between.sigma**2 == pytest.approx(1.0)
    assert schedule.point(-1) == (-1, 1.0, 0.0)
    assert schedule.point_of_ratio(schedule.point(321).ratio).t == 321
    for t in (-2, -0.5, 999.5, 1000):
        with pytest.raises(ValueError, match="is not on a schedule of 1000 steps"):
            schedule.point(t)


def test_times_that_are_not_on_the_schedule_have_no_values():
    """Least of all those without noise, which a table that ends with them has behind its end."""
    schedule = NoiseSchedule()
    for table in (schedule.alpha, schedule.sigma, schedule.logsnr):
        for t in (-2, 1000, -1001, np.array([3, 1000]), np.array([[-2], [999]])):
            with pytest.raises(ValueError, match="is not on a schedule of 1000 steps"):
                table(t)
        assert table(np.zeros([0], int)).shape == (0,)


def test_leading_times_that_would_pass_the_noisiest_step_are_refused():
    times = times_of(10, "leading", offset=1)
    assert list(times[:2]) == [901, 801]
    with pytest.raises(ValueError, match="steps is 1000; leading times with an offset of 1"):
        times_of(1000, "leading", offset=1)
    # One more is chosen than is taken; the number that is told is the one that was asked for.
    with pytest.raises(ValueError, match="steps is 999; leading times with an offset of 1"):
        dpm_path(NoiseSchedule(), 999, Spacing("leading", 1))


@pytest.mark.parametrize("steps", [1, 40, 50, 100, 1000])
def test_latent_consistency_begins_with_noise(steps):
    schedule = NoiseSchedule(ScheduleConfig(steps=steps))
    for path in (lcm_path(schedule, 1, Spacing()), lcm_training_path(schedule)):
        assert path[0].start == schedule.point(steps - 1)


@pytest.mark.parametrize("steps", [51, 75, 99, 120, 999])
def test_latent_consistency_has_no_times_on_other_schedules(steps):
    schedule = NoiseSchedule(ScheduleConfig(steps=steps))
    for path in (lambda: lcm_path(schedule, 4, Spacing()), lambda: lcm_training_path(schedule)):
        with pytest.raises(ValueError, match=f"schedule has {steps} steps; .* at most 50, or a"):
            path()
