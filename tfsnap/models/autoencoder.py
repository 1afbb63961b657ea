"""The KL autoencoder between pixels and latents."""

from typing import Any

import tensorflow as tf
import tf_keras as keras

from tfsnap.config import AutoencoderConfig
from tfsnap.layers.attention import Attention
from tfsnap.layers.biased import Conv2D
from tfsnap.layers.norms import GroupNorm
from tfsnap.layers.resample import Downsample, Upsample
from tfsnap.layers.resnet import ResNetBlock
from tfsnap.models.tiny_decoder import TinyDecoder

EPSILON = 1e-6  # Of every norm in Stable Diffusion's autoencoder.


def _quiet_start(shape: tuple[int], dtype: tf.DType | None = None, **_: Any) -> tf.Tensor:
    """Zero means, log-variances of -6: noise of unit variance would drown what is learnt first."""
    half = shape[0] // 2
    return tf.cast(tf.repeat([0.0, -6.0], [half, half]), dtype or tf.float32)


class _Middle(keras.layers.Layer):
    """ResNet, single-head self-attention over all positions, ResNet."""

    def __init__(self, channels: int, groups: int, **kwargs: Any):
        super().__init__(**kwargs)
        at = self.name
        self.resnet0 = ResNetBlock(channels, groups, EPSILON, name=f"{at}.resnets.0")
        self.norm = GroupNorm(groups, EPSILON, name=f"{at}.attention.norm")
        self.attention = Attention(channels, 1, qkv_bias=True, name=f"{at}.attention")
        self.resnet1 = ResNetBlock(channels, groups, EPSILON, name=f"{at}.resnets.1")

    def call(self, x: tf.Tensor) -> tf.Tensor:
        x = self.resnet0(x)
        _, height, width, channels = x.shape
        h = tf.reshape(self.norm(x), [-1, height * width, channels])  # [B, H*W, C]
        h = tf.reshape(self.attention(h), [-1, height, width, channels])  # [B, H, W, C]
        return self.resnet1(x + h)


class Encoder(keras.layers.Layer):
    """Pixels to the moments of a diagonal Gaussian over latents (quant_conv included).

    Call args: image, float [B, H, W, 3] in [-1, 1]. Returns (mean, logvar), each
    [B, H/f, W/f, latent_channels].
    """

    def __init__(self, config: AutoencoderConfig, **kwargs: Any):
        super().__init__(**kwargs)
        at, groups, last = self.name, config.groups, len(config.channels) - 1
        self.conv_in = Conv2D(config.channels[0], 3, padding="same", name=f"{at}.conv_in")
        self.blocks = []
        for i, channels in enumerate(config.channels):
            for j in range(config.resnets):
                name = f"{at}.down.{i}.resnets.{j}"
                self.blocks.append(ResNetBlock(channels, groups, EPSILON, name=name))
            if i < last:
                name = f"{at}.down.{i}.downsample"
                self.blocks.append(Downsample(channels, symmetric=False, name=name))
        self.mid = _Middle(config.channels[-1], groups, name=f"{at}.mid")
        self.norm_out = GroupNorm(groups, EPSILON, name=f"{at}.norm_out")
        moments = 2 * config.latent_channels
        self.conv_out = Conv2D(moments, 3, padding="same", name=f"{at}.conv_out")
        self.quant_conv = Conv2D(moments, 1, bias_initializer=_quiet_start, name="quant_conv")

    def call(self, image: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """Encodes `image`."""
        x = self.conv_in(image)
        for block in self.blocks:
            x = block(x)
        x = self.conv_out(tf.nn.silu(self.norm_out(self.mid(x))))
        mean, logvar = tf.split(self.quant_conv(x), 2, axis=-1)
        return mean, tf.clip_by_value(logvar, -30.0, 20.0)


class Decoder(keras.layers.Layer):
    """Latents to pixels (post_quant_conv included).

    Call args: latent, float [B, h, w, latent_channels], not scaled. Returns float
    [B, h*f, w*f, 3], about -1 to 1.
    """

    def __init__(self, config: AutoencoderConfig, **kwargs: Any):
        super().__init__(**kwargs)
        at, groups, last = self.name, config.groups, len(config.decoder_channels) - 1
        widths = config.decoder_channels[::-1]
        self.post_quant_conv = Conv2D(config.latent_channels, 1, name="post_quant_conv")
        self.conv_in = Conv2D(widths[0], 3, padding="same", name=f"{at}.conv_in")
        self.mid = _Middle(widths[0], groups, name=f"{at}.mid")
        self.blocks = []
        for i, channels in enumerate(widths):
            for j in range(config.resnets + 1):
                name = f"{at}.up.{i}.resnets.{j}"
                self.blocks.append(ResNetBlock(channels, groups, EPSILON, name=name))
            if i < last:
                self.blocks.append(Upsample(channels, name=f"{at}.up.{i}.upsample"))
        self.norm_out = GroupNorm(groups, EPSILON, name=f"{at}.norm_out")
        self.conv_out = Conv2D(3, 3, padding="same", name=f"{at}.conv_out")

    def call(self, latent: tf.Tensor) -> tf.Tensor:
        """Decodes `latent`."""
        x = self.mid(self.conv_in(self.post_quant_conv(latent)))
        for block in self.blocks:
            x = block(x)
        return self.conv_out(tf.nn.silu(self.norm_out(x)))


def make_decoder(config: AutoencoderConfig) -> Decoder | TinyDecoder:
    """The decoder that a config describes; its weights are made by the first call."""
    kind = Decoder if config.tiny_decoder is None else TinyDecoder
    return kind(config, name="decoder")


class Autoencoder(keras.Model):
    """Encoder and decoder of latent diffusion.

    Args:
      config: widths; the default is Stable Diffusion v1.5.

    Reference: Rombach et al. 2022 (arXiv 2112.10752), section 3.1.
    """

    def __init__(self, config: AutoencoderConfig, **kwargs: Any):
        super().__init__(name="autoencoder", **kwargs)
        self.config = config
        self.encoder = Encoder(config, name="encoder")
        self.decoder = make_decoder(config)

    def call(self, image: tf.Tensor) -> tf.Tensor:
        """Encodes to the mean and decodes: float [B, H, W, 3] in [-1, 1] to the same shape."""
        mean, _ = self.encoder(image)
        return self.decoder(mean)


def build_autoencoder(config: AutoencoderConfig) -> Autoencoder:
    """Builds an autoencoder with all its weights created, randomly initialised."""
    autoencoder = Autoencoder(config)
    side = config.downsampling
    autoencoder(tf.zeros([1, side, side, 3]))
    return autoencoder
