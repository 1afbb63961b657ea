"""CLIP: the text encoder that conditions the UNet, and the image encoder that scores it."""

from typing import Any

import numpy as np
import tensorflow as tf
import tf_keras as keras

from tfsnap.config import ClipConfig, ClipImageConfig, ClipTextConfig
from tfsnap.layers.attention import Attention
from tfsnap.layers.biased import Conv2D, Dense
from tfsnap.layers.norms import LayerNorm

MASKED = -1e4  # Score of a masked position: softmax gives exactly 0, and fp16 still holds it.


def quick_gelu(x: tf.Tensor) -> tf.Tensor:
    """x sigmoid(1.702 x), the activation OpenAI trained CLIP with."""
    return x * tf.sigmoid(1.702 * x)


def tanh_gelu(x: tf.Tensor) -> tf.Tensor:
    """GELU in its tanh form, at most 5e-4 off: the exact one needs erf, which delegates lack."""
    return tf.nn.gelu(x, approximate=True)


def exact_gelu(x: tf.Tensor) -> tf.Tensor:
    """GELU with erf, for networks that only score pictures and are never exported."""
    return tf.nn.gelu(x, approximate=False)


_ACTIVATIONS = {"quick_gelu": quick_gelu, "gelu": tanh_gelu, "exact_gelu": exact_gelu}


class TransformerBlock(keras.layers.Layer):
    """Pre-norm transformer block.

    Args:
      width: width of the residual stream.
      heads: attention heads.
      mlp_width: width of the MLP.
      activation: of the MLP, see `ClipTextConfig`.

    Call args:
      x: float [B, N, width].
      mask: float, added to the attention scores, or None.
      Returns float [B, N, width].
    """

    def __init__(
        self,
        width: int,
        heads: int,
        mlp_width: int,
        activation: str = "quick_gelu",
        **kwargs: Any,
    ):
        super().__init__(**kwargs)
        self.width = width
        self.heads = heads
        self.mlp_width = mlp_width
        self.activation = activation
        at = self.name
        self.norm1 = LayerNorm(name=f"{at}.norm1")
        self.attention = Attention(width, heads, qkv_bias=True, name=f"{at}.attention")
        self.norm2 = LayerNorm(name=f"{at}.norm2")
        self.mlp_up = Dense(mlp_width, activation=_ACTIVATIONS[activation], name=f"{at}.mlp.up")
        self.mlp_down = Dense(width, name=f"{at}.mlp.down")

    def call(self, x: tf.Tensor, *, mask: tf.Tensor | None = None) -> tf.Tensor:
        """Applies the block."""
        x += self.attention(self.norm1(x), mask=mask)
        return x + self.mlp_down(self.mlp_up(self.norm2(x)))

    def get_config(self) -> dict[str, Any]:
        """Returns the constructor's arguments."""
        own = {
            "width": self.width,
            "heads": self.heads,
            "mlp_width": self.mlp_width,
            "activation": self.activation,
        }
        return {**super().get_config(), **own}


class TextEncoder(keras.Model):
    """CLIP's causal text transformer.

    Args:
      config: widths; the default is ViT-L/14's text tower (123,060,480 parameters).

    Reference: Radford et al. 2021 (arXiv 2103.00020), section 2.4.
    """

    def __init__(self, config: ClipTextConfig, **kwargs: Any):
        super().__init__(name="text_encoder", **kwargs)
        self.config = config
        normal = keras.initializers.RandomNormal
        self.token_embedding = self.add_weight(
            "text.token_embedding",
            [config.vocab_size, config.width],
            initializer=normal(stddev=0.02),
        )
        self.position_embedding = self.add_weight(
            "text.position_embedding",
            [config.context_length, config.width],
            initializer=normal(stddev=0.01),
        )
        self.blocks = [
            TransformerBlock(
                config.width,
                config.heads,
                config.mlp_width,
                config.activation,
                name=f"text.layers.{i}",
            )
            for i in range(config.layers)
        ]
        self.norm_out = LayerNorm(name="text.norm_out")

    def call(self, tokens: tf.Tensor) -> tf.Tensor:
        """Returns the last hidden states after the final norm: the UNet's context.

        Args:
          tokens: int32 [B, T], T the config's context length.

        Returns:
          float [B, T, width].

        Raises:
          ValueError: the tokens have another length.
        """
        length = self.config.context_length
        if tokens.shape[-1] not in (None, length):  # To be cut into rows anew, below.
            raise ValueError(
                f"tokens are of shape {tokens.shape}; this text encoder reads {length} a text: "
                f"make the tokenizer with context_length={length}"
            )
        # GPU delegates take GATHER of 1-D indices only, and add rank-2 constants wrongly: the ids
        # are one flat list, and rank 3 begins at the table.
        table = self.token_embedding[tf.newaxis]  # [1, V, C]
        x = tf.gather(table, tf.reshape(tokens, [-1]), axis=1)  # [1, B*T, C]
        x = tf.reshape(x, [-1, length, self.config.width])  # [B, T, C]
        x += self.position_embedding[tf.newaxis]
        mask = tf.constant(np.triu(np.full((1, 1, length, length), MASKED, np.float32), 1), x.dtype)
        for block in self.blocks:
            x = block(x, mask=mask)
        return self.norm_out(x)


class ImageEncoder(keras.Model):
    """CLIP's vision transformer, up to the normalised class token.

    Args:
      config: widths; the default is ViT-L/14's.

    Reference: Radford et al. 2021 (arXiv 2103.00020), section 2.4.
    """

    def __init__(self, config: ClipImageConfig, **kwargs: Any):
        super().__init__(name="image_encoder", **kwargs)
        self.config = config
        normal = keras.initializers.RandomNormal  # One instance each, or both get equal numbers.
        positions = (config.resolution // config.patch) ** 2 + 1
        self.class_embedding = self.add_weight(
            "image.class_embedding", [config.width], initializer=normal(stddev=config.width**-0.5)
        )
        self.position_embedding = self.add_weight(
            "image.position_embedding",
            [positions, config.width],
            initializer=normal(stddev=config.width**-0.5),
        )
        self.patch_embedding = Conv2D(
            config.width,
            config.patch,
            strides=config.patch,
            use_bias=False,
            name="image.patch_embedding",
        )
        self.norm_in = LayerNorm(name="image.norm_in")
        self.blocks = [
            TransformerBlock(
                config.width,
                config.heads,
                config.mlp_width,
                config.activation,
                name=f"image.layers.{i}",
            )
            for i in range(config.layers)
        ]
        self.norm_out = LayerNorm(name="image.norm_out")

    def call(self, image: tf.Tensor) -> tf.Tensor:
        """Returns the class token, float [B, width], of images, float [B, R, R, 3] in [-1, 1]."""
        patches = self.patch_embedding(self._normalised(image))
        x = tf.reshape(patches, [-1, patches.shape[1] * patches.shape[2], self.config.width])
        first = tf.zeros_like(x[:, :1]) + self.class_embedding  # [B, 1, C]
        x = self.norm_in(tf.concat([first, x], axis=1) + self.position_embedding)  # [B, 1+P, C]
        for block in self.blocks:
            x = block(x)
        return self.norm_out(x[:, 0])

    def _normalised(self, image: tf.Tensor) -> tf.Tensor:
        """((image + 1) / 2 - mean) / std."""
        mean, std = (np.array(v) for v in (self.config.mean, self.config.std))
        scale, shift = 0.5 / std, (0.5 - mean) / std
        if np.all(scale == 1.0) and np.all(shift == 0.0):
            return image
        return image * tf.constant(scale, image.dtype) + tf.constant(shift, image.dtype)


class Clip(keras.Model):
    """Both towers, projected to unit vectors in one space.

    Args:
      config: both towers and the width of the shared space.

    Reference: Radford et al. 2021 (arXiv 2103.00020).
    """

    def __init__(self, config: ClipConfig, **kwargs: Any):
        super().__init__(name="clip", **kwargs)
        self.config = config
        self.text_encoder = TextEncoder(config.text)
        self.image_encoder = ImageEncoder(config.image)
        width = config.embedding_width
        self.text_projection = Dense(width, use_bias=False, name="text_projection")
        self.image_projection = Dense(width, use_bias=False, name="image_projection")
        self.logit_scale = self.add_weight(
            "logit_scale", [], initializer=keras.initializers.Constant(np.log(1 / 0.07))
        )

    def embed_text(self, tokens: tf.Tensor) -> tf.Tensor:
        """Unit vectors, float [B, embedding_width], of int32 tokens [B, T]."""
        states = self.text_encoder(tokens)
        # The end-of-text token has the highest id; it alone sees the whole prompt.
        end = tf.argmax(tokens, axis=-1, output_type=tf.int32)
        pooled = tf.gather(states, end, axis=1, batch_dims=1)  # [B, C]
        return tf.math.l2_normalize(self.text_projection(pooled), axis=-1)

    def embed_image(self, image: tf.Tensor) -> tf.Tensor:
        """Unit vectors, float [B, embedding_width], of images [B, R, R, 3] in [-1, 1]."""
        return tf.math.l2_normalize(self.image_projection(self.image_encoder(image)), axis=-1)

    def call(self, image: tf.Tensor, *, tokens: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """Returns image and text unit vectors, each float [B, embedding_width]."""
        return self.embed_image(image), self.embed_text(tokens)


def build_text_encoder(config: ClipTextConfig) -> TextEncoder:
    """Builds a text encoder with all its weights created, randomly initialised."""
    encoder = TextEncoder(config)
    encoder(tf.zeros([1, config.context_length], tf.int32))
    return encoder


def build_clip(config: ClipConfig) -> Clip:
    """Builds both towers with all their weights created, randomly initialised."""
    clip = Clip(config)
    side = config.image.resolution
    clip(
        tf.zeros([1, side, side, 3]),
        tokens=tf.zeros([1, config.text.context_length], tf.int32),
    )
    return clip
