"""CLIP's tensors: both towers and what projects them into one space."""

from tfsnap.config import ClipConfig, ClipImageConfig
from tfsnap.weights.names.table import Row, dense, norm, vector
from tfsnap.weights.names.text_encoder import text_encoder_rows
from tfsnap.weights.names.transformer import block_rows

IMAGE_PREFIX = "vision_model."


def clip_rows(config: ClipConfig) -> list[Row]:
    """The name table of CLIP. OpenCLIP's names become these in `tfsnap.weights.open_clip`."""
    rows = [*text_encoder_rows(config.text), *_image_rows(config.image)]
    for ours, theirs, width in (
        ("text_projection", "text_projection", config.text.width),
        ("image_projection", "visual_projection", config.image.width),
    ):
        rows += dense(ours, theirs, theirs, (width, config.embedding_width), bias=False)
    return [*rows, vector("logit_scale", "logit_scale", "logit_scale")]


def _image_rows(config: ClipImageConfig) -> list[Row]:
    c, p = config.width, config.patch
    positions = (config.resolution // p) ** 2 + 1
    embedding = "embeddings.position_embedding.weight"
    rows = [
        vector("image.class_embedding", *_names("embeddings.class_embedding"), c),
        vector("image.position_embedding", *_names(embedding), positions, c),
        Row(
            "image.patch_embedding.kernel",
            *_names("embeddings.patch_embedding.weight"),
            (p, p, 3, c),
            (c, 3, p, p),
            kernel=True,
        ),
        *norm("image.norm_in", *_names("pre_layrnorm"), c),
        *norm("image.norm_out", *_names("post_layernorm"), c),
    ]
    for i in range(config.layers):
        at = (f"image.layers.{i}", f"encoder.layers.{i}")
        rows += block_rows(*at, _names, width=c, mlp_width=config.mlp_width)
    return rows


def _names(theirs: str) -> tuple[str, str]:
    """The name in transformers, and again: no original file of ours holds this tower."""
    return f"{IMAGE_PREFIX}{theirs}", f"{IMAGE_PREFIX}{theirs}"
