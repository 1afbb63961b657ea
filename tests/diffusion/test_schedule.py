import numpy as np
import pytest
from keras_cv.src.models.stable_diffusion.constants import _ALPHAS_CUMPROD

from tfsnap.config import ScheduleConfig
from tfsnap.diffusion.schedule import NoiseSchedule, spaced_timesteps


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


@pytest.mark.parametrize(
    ("spacing", "expected"),
    # Lin et al. 2023, table 2, less one: they count steps from 1.
    [("trailing", [999, 899, 799]), ("leading", [900, 800, 700]), ("linspace", [999, 888, 777])],
)
def test_spacing(spacing, expected):
    times = spaced_timesteps(steps=1000, sampling_steps=10, spacing=spacing)
    assert list(times[:3]) == expected
    assert len(times) == 10
    assert np.all(np.diff(times) < 0)


@pytest.mark.parametrize("spacing", ["trailing", "leading", "linspace"])
@pytest.mark.parametrize("steps", [1, 7, 8, 333, 1000])
def test_any_number_of_steps_is_distinct_and_in_range(spacing, steps):
    times = spaced_timesteps(steps=1000, sampling_steps=steps, spacing=spacing)
    assert len(set(times)) == steps
    assert times.min() >= 0 and times.max() <= 999


def test_bad_spacing_is_explained():
    with pytest.raises(ValueError, match="steps is 0; it must be between 1 and 1000"):
        spaced_timesteps(steps=1000, sampling_steps=0)
    with pytest.raises(ValueError, match="'karras'"):
        spaced_timesteps(steps=1000, sampling_steps=4, spacing="karras")
    with pytest.raises(ValueError, match="beta_end is 1.5"):
        ScheduleConfig(beta_end=1.5)
