"""A small UNet with every kind of block, and UNets whose every branch does something."""

import numpy as np
import tf_keras as keras

from tfsnap.config import StageConfig, UNetConfig
from tfsnap.models.unet import build_unet

CONFIG = UNetConfig(
    down=(StageConfig(8, 1, 1), StageConfig(16, 1, 0)),
    mid=StageConfig(16, 1, 1),
    up=(StageConfig(16, 2, 0), StageConfig(8, 2, 0)),
    context_width=6,
    heads=2,
    groups=4,
)


def randomised_unet(config):
    """Built with residual branches that do not start at zero."""
    keras.utils.set_random_seed(0)
    model = build_unet(config)
    rng = np.random.default_rng(0)
    for variable in model.trainable_variables:
        variable.assign(variable + 0.1 * rng.standard_normal(variable.shape))
    return model
