"""Multi-head attention and the spatial transformer of latent diffusion."""

import math
from typing import Any

import tensorflow as tf
import tf_keras as keras

from tfsnap.layers.biased import Conv2D, Dense
from tfsnap.layers.norms import GroupNorm, LayerNorm

# Of one matrix product: 67 MB in float32. Stable Diffusion's 64 x 64 latent has eight times as many
# in an attention, more than phones' GPUs allow in a buffer.
MOST_SCORES = 2**24


class Attention(keras.layers.Layer):
    """Multi-head scaled dot-product attention.

    Heads are an axis of their own, never folded into the batch: both matrix products are then
    rank-4 BATCH_MATMULs of two run-time inputs, which GPU delegates take. Queries are taken in
    parts where an example has more than `MOST_SCORES` scores: the same numbers in less memory, as
    long as a runtime evaluates part after part.

    Args:
      width: width of queries, keys, values and output.
      heads: number of heads; divides `width`.
      qkv_bias: whether the query, key and value projections have a bias. CLIP and the autoencoder
        do, the UNet does not.

    Call args:
      x: float [B, N, C].
      context: float [B, M, D] that keys and values come from; None attends to `x` itself.
      mask: float, added to the scores, broadcastable to [B, heads, N, M].
      Returns float [B, N, width].

    Reference: Vaswani et al. 2017 (arXiv 1706.03762), eq. 1.
    """

    def __init__(self, width: int, heads: int, qkv_bias: bool = False, **kwargs: Any):
        super().__init__(**kwargs)
        if width % heads:
            raise ValueError(f"{self.name}: width {width} does not split in {heads} heads")
        self.width = width
        self.heads = heads
        self.qkv_bias = qkv_bias
        self.query = Dense(width, use_bias=qkv_bias, name=f"{self.name}.query")
        self.key = Dense(width, use_bias=qkv_bias, name=f"{self.name}.key")
        self.value = Dense(width, use_bias=qkv_bias, name=f"{self.name}.value")
        self.out = Dense(width, name=f"{self.name}.out")

    def _split(self, x: tf.Tensor) -> tf.Tensor:
        x = tf.reshape(x, [-1, x.shape[1], self.heads, self.width // self.heads])  # [B, N, H, D]
        return tf.transpose(x, [0, 2, 1, 3])  # [B, H, N, D]

    def _parts(self, q: tf.Tensor, k: tf.Tensor, mask: tf.Tensor | None) -> int:
        """In how many equal parts queries are taken, so that scores stay few; all with a mask."""
        queries, keys = q.shape[2], k.shape[2]
        least = math.ceil(self.heads * queries * keys / MOST_SCORES)
        if mask is not None:
            return 1
        return next(parts for parts in range(least, queries + 1) if queries % parts == 0)

    def call(
        self, x: tf.Tensor, *, context: tf.Tensor | None = None, mask: tf.Tensor | None = None
    ) -> tf.Tensor:
        """Attends from `x` to `context`."""
        source = x if context is None else context
        # Queries are scaled before the product so that no score passes fp16's 65,504.
        q = self._split(self.query(x) * (self.width // self.heads) ** -0.5)
        k, v = self._split(self.key(source)), self._split(self.value(source))
        parts = self._parts(q, k, mask)
        if parts == 1:
            mixed = _attend(q, k, v, mask)
        else:
            each = [_attend(part, k, v, mask) for part in tf.split(q, parts, axis=2)]
            mixed = tf.concat(each, axis=2)  # [B, H, N, D]
        mixed = tf.transpose(mixed, [0, 2, 1, 3])  # [B, N, H, D]
        return self.out(tf.reshape(mixed, [-1, x.shape[1], self.width]))  # [B, N, C]

    def get_config(self) -> dict[str, Any]:
        """Returns the constructor's arguments."""
        own = {"width": self.width, "heads": self.heads, "qkv_bias": self.qkv_bias}
        return {**super().get_config(), **own}


def _attend(q: tf.Tensor, k: tf.Tensor, v: tf.Tensor, mask: tf.Tensor | None) -> tf.Tensor:
    """softmax(q k^T + mask) v, float [B, H, N, D]."""
    scores = tf.matmul(q, k, transpose_b=True)  # [B, H, N, M]
    if mask is not None:
        scores += mask
    return tf.matmul(tf.nn.softmax(scores), v)


class GegluFeedForward(keras.layers.Layer):
    """Two-layer MLP gated by a GELU: out(a * gelu(b)), [a, b] = up(x).

    The GELU is the tanh form: the exact one needs erf, which delegates lack.

    Args:
      width: input and output width.
      ratio: hidden width over `width`.

    Call args: x, float [B, N, width]. Returns the same shape.

    Reference: Shazeer 2020 (arXiv 2002.05202).
    """

    def __init__(self, width: int, ratio: int = 4, **kwargs: Any):
        super().__init__(**kwargs)
        self.width = width
        self.ratio = ratio
        self.up = Dense(2 * ratio * width, name=f"{self.name}.up")
        self.down = Dense(width, name=f"{self.name}.down")

    def call(self, x: tf.Tensor) -> tf.Tensor:
        """Applies the MLP."""
        # Not tf.split: a GPU delegate writes a shader of one line for every few channels of it.
        both, hidden = self.up(x), self.ratio * self.width
        value, gate = both[:, :, :hidden], both[:, :, hidden:]
        return self.down(value * tf.nn.gelu(gate, approximate=True))

    def get_config(self) -> dict[str, Any]:
        """Returns the constructor's arguments."""
        return {**super().get_config(), "width": self.width, "ratio": self.ratio}


class SpatialTransformer(keras.layers.Layer):
    """The cross-attention block: self-attention, attention to the text, feed-forward.

    The output projection starts at zero, so that a new block starts as the identity.

    Args:
      channels: channels of the feature map.
      heads: attention heads.
      groups: groups of the input normalisation.

    Call args:
      x: float [B, H, W, channels], static H and W.
      context: float [B, T, D], the text embedding.
      Returns float [B, H, W, channels].

    Reference: Rombach et al. 2022 (arXiv 2112.10752), section 3.3.
    """

    def __init__(self, channels: int, heads: int, groups: int = 32, **kwargs: Any):
        super().__init__(**kwargs)
        self.channels = channels
        self.heads = heads
        self.groups = groups
        at = self.name
        self.norm = GroupNorm(groups, epsilon=1e-6, name=f"{at}.norm")
        self.proj_in = Conv2D(channels, 1, name=f"{at}.proj_in")
        self.norm1 = LayerNorm(name=f"{at}.norm1")
        self.self_attention = Attention(channels, heads, name=f"{at}.self_attention")
        self.norm2 = LayerNorm(name=f"{at}.norm2")
        self.cross_attention = Attention(channels, heads, name=f"{at}.cross_attention")
        self.norm3 = LayerNorm(name=f"{at}.norm3")
        self.feed_forward = GegluFeedForward(channels, name=f"{at}.feed_forward")
        self.proj_out = Conv2D(channels, 1, kernel_initializer="zeros", name=f"{at}.proj_out")

    def call(self, x: tf.Tensor, *, context: tf.Tensor) -> tf.Tensor:
        """Mixes the text into the feature map."""
        _, height, width, channels = x.shape
        h = self.proj_in(self.norm(x))
        h = tf.reshape(h, [-1, height * width, channels])  # [B, H*W, C]
        h += self.self_attention(self.norm1(h))
        h += self.cross_attention(self.norm2(h), context=context)
        h += self.feed_forward(self.norm3(h))
        h = tf.reshape(h, [-1, height, width, channels])  # [B, H, W, C]
        return self.bypass(x) + self.proj_out(h)

    def bypass(self, x: tf.Tensor) -> tf.Tensor:
        """What is left of the block without its residual branch."""
        return x

    def get_config(self) -> dict[str, Any]:
        """Returns the constructor's arguments."""
        own = {"channels": self.channels, "heads": self.heads, "groups": self.groups}
        return {**super().get_config(), **own}
