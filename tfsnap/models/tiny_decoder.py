"""A decoder at a fraction of the size: separable convolutions, no attention, no norms."""

from typing import Any

import tensorflow as tf
import tf_keras as keras

from tfsnap.config import AutoencoderConfig
from tfsnap.layers.biased import Conv2D
from tfsnap.layers.resample import Upsample
from tfsnap.layers.separable import SeparableBlock

_BOUND = 3.0  # Standard deviations that a latent's channel is squeezed into.


class TinyDecoder(keras.layers.Layer):
    """Latents to pixels (post_quant_conv included), for an autoencoder with `tiny_decoder`.

    It takes the place of `tfsnap.models.autoencoder.Decoder`. Latents are brought to unit variance
    and softly bounded first: without norms, an outlier that a sampler made would pass through all
    layers and, on a phone, leave the range of float16.

    Args:
      config: the autoencoder.

    Call args: latent, float [B, h, w, latent_channels], not scaled. Returns float
      [B, h*f, w*f, 3], about -1 to 1.

    Reference: Bohan 2023, TAESD, for the bound, ReLUs and no norms; Hu et al. 2024 (SnapGen, arXiv
      2412.09619), section 3.2, for separable convolutions and no attention.
    """

    def __init__(self, config: AutoencoderConfig, **kwargs: Any):
        super().__init__(**kwargs)
        at, tiny = self.name, config.tiny_decoder
        self.scale = config.scale
        self.post_quant_conv = Conv2D(config.latent_channels, 1, name="post_quant_conv")
        widths, counts = tiny.channels[::-1], tiny.blocks[::-1]
        self.conv_in = Conv2D(widths[0], 3, padding="same", name=f"{at}.conv_in")
        self.blocks = []
        for i, (width, count) in enumerate(zip(widths, counts, strict=True)):
            for j in range(count):
                name = f"{at}.up.{i}.blocks.{j}"
                self.blocks.append(SeparableBlock(width, tiny.expansion, name=name))
            # The convolution behind the doubling goes to the width of the next stage.
            self.blocks += [
                Upsample(w, name=f"{at}.up.{i}.upsample") for w in widths[i + 1 : i + 2]
            ]
        self.conv_out = Conv2D(3, 3, padding="same", name=f"{at}.conv_out")

    def call(self, latent: tf.Tensor) -> tf.Tensor:
        """Decodes `latent`."""
        x = self.post_quant_conv(latent) * (self.scale / _BOUND)
        x = tf.nn.relu(self.conv_in(_BOUND * tf.tanh(x)))
        for block in self.blocks:
            x = block(x)
        return self.conv_out(x)
