"""A network that predicts noise, rewritten as one that predicts v."""

import numpy as np

from tests.objectives.toy_networks import DENOISE, DRAWS, SCHEDULE, Network, Rewritten, amplitudes
from tfsnap.diffusion.process import interpret
from tfsnap.objectives.denoise import Denoise


def test_rewriting_changes_nothing_that_it_says():
    z, eps = np.random.default_rng(0).standard_normal([2, 5, 2, 2, 4])
    alpha, sigma = amplitudes(np.array([0, 10, 500, 900, 999]))
    before = interpret("epsilon", z_t=z, output=eps, alpha=alpha, sigma=sigma)
    rewritten = (eps - sigma * z) / alpha
    after = interpret("v", z_t=z, output=rewritten, alpha=alpha, sigma=sigma)
    for one, other in zip(before, after, strict=True):
        np.testing.assert_allclose(one, other, atol=1e-10)


def test_its_loss_is_that_of_epsilon_with_other_weights(batch):
    """|| v_hat - v ||^2 = || eps_hat - eps ||^2 / alpha_t^2: it still learns to predict noise."""
    epsilon = Denoise(None, SCHEDULE, "epsilon", scale=0.9)
    noise, _ = epsilon(Network(0.7), batch, DRAWS)
    velocity, _ = DENOISE(Rewritten(0.7), batch, DRAWS)
    alpha, _ = amplitudes(DRAWS.integers(high=1000, stream=2).numpy())
    assert np.ptp(alpha) > 0.2
    np.testing.assert_allclose(velocity, noise / alpha.ravel() ** 2, rtol=1e-3)
