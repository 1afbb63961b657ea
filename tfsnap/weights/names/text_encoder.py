"""The text encoder's tensors."""

from tfsnap.config import ClipTextConfig
from tfsnap.weights.names.table import Row, norm, vector
from tfsnap.weights.names.transformer import block_rows

PREFIX = "text_model."  # Of every name in a checkpoint; transformers 5 drops it.


def text_encoder_rows(config: ClipTextConfig) -> list[Row]:
    """The name table of CLIP's text encoder."""
    c = config.width
    rows = [
        _vector(f"text.{kind}_embedding", f"embeddings.{kind}_embedding", count, c)
        for kind, count in (("token", config.vocab_size), ("position", config.context_length))
    ]
    for i in range(config.layers):
        at = (f"text.layers.{i}", f"encoder.layers.{i}")
        rows += block_rows(*at, _names, width=c, mlp_width=config.mlp_width)
    return rows + norm("text.norm_out", *_names("final_layer_norm"), c)


def _names(theirs: str) -> tuple[str, str]:
    """The names in diffusers and in the original file, which embeds the same module."""
    return f"{PREFIX}{theirs}", f"transformer.{PREFIX}{theirs}"


def _vector(ours: str, theirs: str, *shape: int) -> Row:
    return vector(ours, *_names(f"{theirs}.weight"), *shape)
