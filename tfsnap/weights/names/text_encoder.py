"""The text encoder's tensors."""

from tfsnap.config import ClipTextConfig
from tfsnap.weights.names.table import Row, dense, norm, vector

PREFIX = "text_model."  # Of every name in a checkpoint; transformers 5 drops it.


def text_encoder_rows(config: ClipTextConfig) -> list[Row]:
    """The name table of CLIP's text encoder."""
    c = config.width
    rows = [
        _vector(f"text.{kind}_embedding", f"embeddings.{kind}_embedding", count, c)
        for kind, count in (("token", config.vocab_size), ("position", config.context_length))
    ]
    for i in range(config.layers):
        rows += _layer(f"text.layers.{i}", f"encoder.layers.{i}", config)
    return rows + norm("text.norm_out", *_names("final_layer_norm"), c)


def _names(theirs: str) -> tuple[str, str]:
    """The names in diffusers and in the original file, which embeds the same module."""
    return f"{PREFIX}{theirs}", f"transformer.{PREFIX}{theirs}"


def _vector(ours: str, theirs: str, *shape: int) -> Row:
    return vector(ours, *_names(f"{theirs}.weight"), *shape)


def _layer(ours: str, theirs: str, config: ClipTextConfig) -> list[Row]:
    c, hidden = config.width, config.width * config.mlp_ratio
    rows = []
    for i in (1, 2):
        rows += norm(f"{ours}.norm{i}", *_names(f"{theirs}.layer_norm{i}"), c)
    for mine, projection in (
        ("query", "q_proj"),
        ("key", "k_proj"),
        ("value", "v_proj"),
        ("out", "out_proj"),
    ):
        names = _names(f"{theirs}.self_attn.{projection}")
        rows += dense(f"{ours}.attention.{mine}", *names, (c, c))
    rows += dense(f"{ours}.mlp.up", *_names(f"{theirs}.mlp.fc1"), (c, hidden))
    return rows + dense(f"{ours}.mlp.down", *_names(f"{theirs}.mlp.fc2"), (hidden, c))
