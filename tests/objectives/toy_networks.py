"""What distillers are tested on: networks with a second implementation in float64 numpy."""

import numpy as np
import tensorflow as tf

from tfsnap.diffusion.schedule import NoiseSchedule
from tfsnap.objectives.base import Draws
from tfsnap.objectives.denoise import Denoise, looked_up
from tfsnap.objectives.guidance import Twice

SCHEDULE = NoiseSchedule()
DENOISE = Denoise(None, SCHEDULE, "v", scale=0.9)
NULL = np.full([3, 5], 0.25, np.float32)
TWICE = Twice(NULL)
DRAWS = Draws(seed=np.array([7, 3], np.int32), rows=4)


class Network:
    """A smooth function of latent, time and text: a UNet as far as the objective can tell."""

    def __init__(self, gain, bias=0.1):
        self.gain, self.bias = tf.Variable(gain), bias
        self.rows = []

    def __call__(self, z, *, timesteps, context, guidance=None):
        self.rows.append(int(z.shape[0]))
        if guidance is not None:
            context = context + tf.reshape(guidance, [-1, 1, 1]) / 10.0
        t = tf.reshape(tf.cast(timesteps, tf.float32), [-1, 1, 1, 1]) / 1000.0
        text = tf.reshape(tf.reduce_mean(context, axis=[1, 2]), [-1, 1, 1, 1])
        return self.gain * tf.sin(z) * (1.0 - t) + text * tf.cos(z + t) + self.bias

    def numpy(self, z, t, context, told=None):
        """The same in float64."""
        if told is not None:
            context = context + told.reshape(-1, 1, 1) / 10.0
        t = t.reshape(-1, 1, 1, 1) / 1000.0
        text = context.mean(axis=(1, 2)).reshape(-1, 1, 1, 1)
        gain = float(self.gain.numpy())
        return gain * np.sin(z) * (1.0 - t) + text * np.cos(z + t) + self.bias


class Rewritten(Network):
    """Its output is noise, and this is v = (eps - sigma_t z_t) / alpha_t."""

    def __call__(self, z, *, timesteps, context):
        every, t = range(SCHEDULE.steps), tf.cast(timesteps, tf.int32)
        alpha, sigma = (looked_up(f(every), t) for f in (SCHEDULE.alpha, SCHEDULE.sigma))
        return (super().__call__(z, timesteps=timesteps, context=context) - sigma * z) / alpha


def amplitudes(t):
    betas = np.linspace(0.00085**0.5, 0.012**0.5, 1000) ** 2
    alphas_bar = np.append(np.cumprod(1 - betas), 1.0)[t].reshape(-1, 1, 1, 1)
    return np.sqrt(alphas_bar), np.sqrt(1 - alphas_bar)


def guided(network, z, t, context, scale):
    if isinstance(scale, tuple):  # As an input, and not by a second evaluation.
        return network.numpy(z, t, context, told=scale[0])
    conditional = network.numpy(z, t, context)
    if scale is None:
        return conditional
    null = network.numpy(z, t, np.broadcast_to(NULL, context.shape).astype(np.float64))
    return scale * conditional - (scale - 1) * null


def scale_of(low, high, draws=DRAWS):
    drawn = draws.integers(high=2**23, stream=13).numpy()
    return (low + (high - low) * (drawn + 0.5) / 2**23).reshape(-1, 1, 1, 1)
