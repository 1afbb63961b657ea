"""Pictures while training."""

import numpy as np
import pytest
import tensorflow as tf

from tests.training.tiny_job import UNET
from tfsnap.config import ScheduleConfig
from tfsnap.diffusion.schedule import NoiseSchedule
from tfsnap.models.unet import build_unet
from tfsnap.training.precision import computing_in
from tfsnap.training.sampling import guided, sample_latents


@pytest.mark.parametrize("guidance", [1.0, 3.0])
def test_a_network_that_computes_in_bfloat16_is_sampled_in_float32(guidance):
    with computing_in("bfloat16"):
        unet = build_unet(UNET)
    rng = np.random.default_rng(0)
    context = tf.constant(rng.standard_normal([4, 4, 8]), tf.float32)
    assert (
        unet(tf.zeros([4, 4, 4, 4]), timesteps=tf.zeros([4]), context=context).dtype != tf.float32
    )
    found = sample_latents(
        guided(unet, guidance),
        context=context,
        noise=tf.constant(rng.standard_normal([2, 4, 4, 4]), tf.float32),
        schedule=NoiseSchedule(ScheduleConfig()),
        prediction="v",
        steps=2,
    )
    assert found.dtype == tf.float32
    assert np.isfinite(found).all()
