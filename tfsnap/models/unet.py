"""The denoising UNet of latent diffusion, of any shape that `UNetConfig` can write."""

import math
from collections.abc import Mapping
from typing import Any

import tensorflow as tf
import tf_keras as keras

from tfsnap.config import StageConfig, UNetConfig
from tfsnap.layers.attention import SpatialTransformer
from tfsnap.layers.biased import Conv2D, Dense
from tfsnap.layers.norms import GroupNorm
from tfsnap.layers.resample import Downsample, Upsample
from tfsnap.layers.resnet import ResNetBlock

MAX_PERIOD = 10_000.0  # Of the slowest time feature, in training steps.
GUIDANCE_UNIT = 1_000.0  # Of a guidance scale, in the units of time.
# Weights that are 0 in a new network and do nothing while they are: a network may begin with the
# weights of one that lacks them.
ADDED = ("time.guidance.kernel",)


def time_features(timesteps: tf.Tensor, width: int) -> tf.Tensor:
    """Sinusoidal features [cos(t f_i), sin(t f_i)] with f_i = MAX_PERIOD^(-i / (width/2)).

    Args:
      timesteps: int or float [B].
      width: even number of features.

    Returns:
      float32 [B, 1, width].

    Reference: Ho et al. 2020 (arXiv 2006.11239); the order, cosines first, is Stable Diffusion's.
    """
    half = width // 2
    frequencies = tf.exp(-math.log(MAX_PERIOD) / half * tf.range(half, dtype=tf.float32))
    angles = tf.cast(timesteps, tf.float32)[:, None, None] * frequencies  # [B, 1, width/2]
    return tf.concat([tf.cos(angles), tf.sin(angles)], axis=-1)


def guidance_features(scale: tf.Tensor, width: int) -> tf.Tensor:
    """Sinusoidal features [sin(a f_i), cos(a f_i)], a = GUIDANCE_UNIT (w - 1), of a scale w.

    f_i = MAX_PERIOD^(-i / (width/2 - 1)): in another order than those of time, and the last
    frequency is 1 / MAX_PERIOD, as latent consistency models have it.

    Args:
      scale: float [B], the guidance scale w of `tfsnap.diffusion.guidance.guide`; 1 is none.
      width: even number of features.

    Returns:
      float32 [B, 1, width].

    Reference: Meng et al. 2023 (arXiv 2210.03142), section 3.1; Luo et al. 2023 (arXiv 2310.04378).
    """
    half = width // 2
    frequencies = tf.exp(-math.log(MAX_PERIOD) / (half - 1) * tf.range(half, dtype=tf.float32))
    amount = GUIDANCE_UNIT * (tf.cast(scale, tf.float32) - 1.0)
    angles = amount[:, None, None] * frequencies  # [B, 1, width/2]
    return tf.concat([tf.sin(angles), tf.cos(angles)], axis=-1)


class Stage(keras.layers.Layer):
    """ResNets, each followed by its cross-attention blocks, then an optional change of resolution.

    Args:
      stage: channels and block counts.
      unet: the network's config, for heads and groups.
      resample: "down", "up" or None, what follows the blocks.

    Call args:
      x: float [B, H, W, C].
      time: float [B, 1, E].
      context: float [B, T, D].
      skips: feature maps from the way down, one for each ResNet, the one to use first last; None on
        the way down and in the middle.
      run: see `UNet.call`.
      size: height and width to double the resolution to, see `Upsample`.
      Returns the stage's output and the list of feature maps that it leaves for the way up.
    """

    def __init__(self, stage: StageConfig, unet: UNetConfig, resample: str | None, **kwargs: Any):
        super().__init__(**kwargs)
        at, channels = self.name, stage.channels
        self.resnets = [
            ResNetBlock(channels, unet.groups, name=f"{at}.resnets.{i}")
            for i in range(stage.resnets)
        ]
        self.attentions = [
            [
                SpatialTransformer(
                    channels,
                    unet.heads_of(channels),
                    unet.groups,
                    name=f"{at}.attentions.{i}.{k}",
                )
                for k in range(count)
            ]
            for i, count in enumerate(stage.attentions)
        ]
        self.resample = None
        if resample == "down":
            self.resample = Downsample(channels, symmetric=True, name=f"{at}.downsample")
        elif resample == "up":
            self.resample = Upsample(channels, name=f"{at}.upsample")

    def call(
        self,
        x: tf.Tensor,
        *,
        time: tf.Tensor,
        context: tf.Tensor,
        skips: list[tf.Tensor] | None = None,
        run: Mapping[str, tf.Tensor] | None = None,
        size: tuple[int, int] | None = None,
    ) -> tuple[tf.Tensor, list[tf.Tensor]]:
        """Runs the stage."""
        left = []
        entering = [None] * len(self.resnets) if skips is None else skips[::-1]
        for resnet, attentions, skip in zip(self.resnets, self.attentions, entering, strict=True):
            entered = x if skip is None else tf.concat([x, skip], axis=-1)
            # Where it can, what is left without the ResNet is x: nothing reads the skip then.
            without = x if x.shape[-1] == resnet.channels else None
            x = _run_or_skip(resnet, run, entered, without=without, time=time)
            for attention in attentions:
                x = _run_or_skip(attention, run, x, without=x, context=context)
            left.append(x)
        if self.resample is not None:
            x = self.resample(x) if size is None else self.resample(x, size=size)
            left.append(x)
        return x, left


class UNet(keras.Model):
    """Predicts noise or velocity from a noisy latent, a time and a text embedding.

    Args:
      config: shape of the network; the default is Stable Diffusion v1.5.

    Example:
      >>> unet = build_unet(UNetConfig())  # 859,520,964 parameters
      >>> unet(z_t, timesteps=t, context=text).shape
      TensorShape([1, 64, 64, 4])

    Reference: Rombach et al. 2022 (arXiv 2112.10752); SnapFusion, table 3.
    """

    def __init__(self, config: UNetConfig, **kwargs: Any):
        super().__init__(name="unet", **kwargs)
        self.config = config
        last = len(config.down) - 1
        embedding = 4 * config.down[0].channels
        self.time_in = Dense(embedding, name="time.in")
        self.time_out = Dense(embedding, name="time.out")
        self.time_guidance = None
        if config.guidance_width is not None:
            self.time_guidance = Dense(
                config.time_width,
                use_bias=False,
                kernel_initializer="zeros",
                name="time.guidance",
            )
        self.conv_in = Conv2D(config.down[0].channels, 3, padding="same", name="conv_in")
        self.down = [
            Stage(stage, config, "down" if i < last else None, name=f"down.{i}")
            for i, stage in enumerate(config.down)
        ]
        self.mid = None if config.mid is None else Stage(config.mid, config, None, name="mid")
        self.up = [
            Stage(stage, config, "up" if i < last else None, name=f"up.{i}")
            for i, stage in enumerate(config.up)
        ]
        self.norm_out = GroupNorm(config.groups, name="norm_out")
        self.conv_out = Conv2D(
            config.out_channels, 3, padding="same", kernel_initializer="zeros", name="conv_out"
        )

    def call(
        self,
        latent: tf.Tensor,
        *,
        timesteps: tf.Tensor,
        context: tf.Tensor,
        guidance: tf.Tensor | None = None,
        run: Mapping[str, tf.Tensor] | None = None,
    ) -> tf.Tensor:
        """Evaluates the network.

        Args:
          latent: float [B, h, w, in_channels], h and w static. Multiples of `config.downsampling`
            are what phones' GPUs like; others are rounded up on the way down and cut on the way up.
          timesteps: int or float [B], training steps.
          context: float [B, T, context_width].
          guidance: float [B], the scale w of a network that reads it; None is 1, no guidance.
          run: by name, whether a block of `blocks` runs, bool scalars; those left out run. A block
            that does not is the identity, a ResNet of the way up one of what enters from below; or
            its shortcut where the number of channels changes.

        Returns:
          float [B, h, w, out_channels].

        Raises:
          ValueError: there is a scale and the network reads none.
        """
        features, told = time_features(timesteps, self.config.time_width), None
        if self.config.guidance_width is not None:
            scale = tf.ones(tf.shape(timesteps)) if guidance is None else guidance
            told = guidance_features(scale, self.config.guidance_width)
        elif guidance is not None:
            raise ValueError("this UNet reads no guidance scale: its config has no guidance_width")
        return self.denoise(latent, features=features, context=context, guidance=told, run=run)

    @property
    def stages(self) -> tuple[Stage, ...]:
        """All stages in the order in which they run."""
        middle = () if self.mid is None else (self.mid,)
        return (*self.down, *middle, *self.up)

    @property
    def blocks(self) -> tuple[str, ...]:
        """Names of the ResNet and cross-attention blocks."""
        return tuple(
            block.name
            for stage in self.stages
            for resnet, attentions in zip(stage.resnets, stage.attentions, strict=True)
            for block in (resnet, *attentions)
        )

    def denoise(
        self,
        latent: tf.Tensor,
        *,
        features: tf.Tensor,
        context: tf.Tensor,
        guidance: tf.Tensor | None = None,
        run: Mapping[str, tf.Tensor] | None = None,
    ) -> tf.Tensor:
        """As `call`, from features, float [B, 1, width], of time and, if it is read, of guidance.

        This is the graph that is exported. The features are made by the caller because an angle of
        1,000 radians and more has no precision left in the fp16 arithmetic of a phone's GPU.
        """
        if self.time_guidance is not None:
            features += tf.cast(self.time_guidance(guidance), features.dtype)
        time = self.time_out(tf.nn.silu(self.time_in(features)))
        x = self.conv_in(latent)
        skips = [x]
        for stage in self.down:
            x, left = stage(x, time=time, context=context, run=run)
            skips += left
        if self.mid is not None:
            x, _ = self.mid(x, time=time, context=context, run=run)
        for stage, shape in zip(self.up, self.config.up, strict=True):
            mine, skips = skips[-shape.resnets :], skips[: -shape.resnets]
            size = tuple(skips[-1].shape[1:3]) if skips else None
            x, _ = stage(x, time=time, context=context, skips=mine, run=run, size=size)
        return self.conv_out(tf.nn.silu(self.norm_out(x)))


def _run_or_skip(
    block: ResNetBlock | SpatialTransformer,
    run: Mapping[str, tf.Tensor] | None,
    x: tf.Tensor,
    *,
    without: tf.Tensor | None,
    **inputs: tf.Tensor,
) -> tf.Tensor:
    """The block's output, or, not computing it, `without`: by default the ResNet's shortcut."""
    wanted = None if run is None else run.get(block.name)
    if wanted is None:
        return block(x, **inputs)
    return tf.cond(
        wanted,
        lambda: block(x, **inputs),
        lambda: block.bypass(x) if without is None else without,
    )


def build_unet(config: UNetConfig) -> UNet:
    """Builds a UNet with all its weights created, randomly initialised."""
    unet = UNet(config)
    side = config.downsampling
    unet(
        tf.zeros([1, side, side, config.in_channels]),
        timesteps=tf.zeros([1], tf.int32),
        context=tf.zeros([1, 1, config.context_width]),
    )
    return unet
