"""The JSON configs of a CLIP, transformers' and OpenCLIP's, to ours."""

from typing import Any

from tfsnap.config import ClipConfig, ClipImageConfig, ClipTextConfig
from tfsnap.weights.diffusers_config import (
    Json,
    UnsupportedConfigError,
    mlp_ratio,
    require_fixed,
    text_encoder_from_json,
)

# Of the pictures that OpenAI trained with; everything else says so if it differs.
OPENAI_MEAN = (0.48145466, 0.4578275, 0.40821073)
OPENAI_STD = (0.26862954, 0.26130258, 0.27577711)

_BICUBIC = 3  # Pillow's number.
_VISION_FIXED = {"layer_norm_eps": 1e-5, "num_channels": 3}
_PREPROCESSOR_FIXED = {
    "do_center_crop": True,
    "do_normalize": True,
    "do_resize": True,
    "resample": _BICUBIC,
}
_OPEN_CLIP_PREPROCESS_FIXED = {"interpolation": "bicubic", "mode": "RGB", "resize_mode": "shortest"}
# The fields that are read; any other must be absent, or false, or as here.
_OPEN_CLIP_VISION = {"image_size", "layers", "width", "head_width", "mlp_ratio", "patch_size"}
_OPEN_CLIP_VISION_FIXED = {"pool_type": "tok", "pos_embed_type": "learnable", "patch_dropout": 0.0}
_OPEN_CLIP_TEXT = {"context_length", "vocab_size", "width", "heads", "layers", "mlp_ratio"}
_OPEN_CLIP_TEXT_FIXED = {"pool_type": "argmax", "proj_type": "linear", "pad_id": 0}
_HARMLESS = {"eos_id", "attn_pooler_queries", "attn_pooler_heads", "output_tokens"}
_HARMLESS |= {"timm_pool", "timm_proj", "hf_model_pretrained", "hf_pooler_type"}


def clip_from_json(values: Json, preprocessor: Json) -> ClipConfig:
    """Reads transformers' `config.json` and `preprocessor_config.json` of a CLIPModel.

    Args:
      values: the first.
      preprocessor: the second; empty means OpenAI's.

    Raises:
      UnsupportedConfigError: the network cannot be built here, or reads pictures in another way.
    """
    text, vision = values["text_config"], values["vision_config"]
    require_fixed(vision, _VISION_FIXED)
    require_fixed(preprocessor, _PREPROCESSOR_FIXED)
    _require_end_token(text)
    width, side = vision.get("hidden_size", 768), vision.get("image_size", 224)
    _require_side(preprocessor, side)
    image = ClipImageConfig(
        resolution=side,
        patch=vision.get("patch_size", 32),
        width=width,
        layers=vision.get("num_hidden_layers", 12),
        heads=vision.get("num_attention_heads", 12),
        mlp_ratio=mlp_ratio(vision.get("intermediate_size", 3072), width),
        activation=_exact(vision.get("hidden_act", "quick_gelu")),
        mean=tuple(preprocessor.get("image_mean", OPENAI_MEAN)),
        std=tuple(preprocessor.get("image_std", OPENAI_STD)),
    )
    found = text_encoder_from_json(text)
    return ClipConfig(
        text=found.replace(activation=_exact(found.activation)),
        image=image,
        embedding_width=values.get("projection_dim", 512),
    )


def _exact(activation: str) -> str:
    """A network that scores computes the GELU that it was trained with."""
    return "exact_gelu" if activation == "gelu" else activation


def _require_end_token(text: Json) -> None:
    """The state of a text is that at its end token, which is found by its highest id.

    Old configs say 2, for which transformers looks for the highest id as well.
    """
    last = text.get("vocab_size", 49408) - 1
    end = text.get("eos_token_id", last)
    if end not in (2, last):
        raise UnsupportedConfigError(
            [f"eos_token_id is {end}, only the last of the vocabulary, {last}, can be found"]
        )


def _require_side(preprocessor: Json, side: int) -> None:
    for field in ("size", "crop_size"):
        given = preprocessor.get(field, side)
        sides = set(given.values()) if isinstance(given, dict) else {given}
        if sides != {side}:
            raise UnsupportedConfigError(
                [f"{field} is {given}, and the network reads {side} x {side} pixels"]
            )


def clip_from_open_clip(values: Json) -> ClipConfig:
    """Reads `open_clip_config.json`.

    Raises:
      UnsupportedConfigError: the network cannot be built here, or reads pictures in another way.
    """
    model, pictures = values["model_cfg"], values.get("preprocess_cfg", {})
    text, vision = model["text_cfg"], model["vision_cfg"]
    require_fixed(pictures, _OPEN_CLIP_PREPROCESS_FIXED)
    _require_plain("vision_cfg", vision, _OPEN_CLIP_VISION, _OPEN_CLIP_VISION_FIXED)
    _require_plain("text_cfg", text, _OPEN_CLIP_TEXT, _OPEN_CLIP_TEXT_FIXED)
    activation = "quick_gelu" if model.get("quick_gelu") else "exact_gelu"
    return ClipConfig(
        text=_open_clip_text(text, activation),
        image=_open_clip_image(vision, activation, pictures),
        embedding_width=model["embed_dim"],
    )


def _open_clip_text(values: Json, activation: str) -> ClipTextConfig:
    width = values.get("width", 512)
    return ClipTextConfig(
        vocab_size=values.get("vocab_size", 49408),
        context_length=values.get("context_length", 77),
        width=width,
        layers=values.get("layers", 12),
        heads=values.get("heads", 8),
        mlp_ratio=mlp_ratio(int(width * values.get("mlp_ratio", 4.0)), width),
        activation=activation,
    )


def _open_clip_image(values: Json, activation: str, pictures: Json) -> ClipImageConfig:
    width = values.get("width", 768)
    return ClipImageConfig(
        resolution=values.get("image_size", 224),
        patch=values.get("patch_size", 16),
        width=width,
        layers=values.get("layers", 12),
        heads=width // values.get("head_width", 64),
        mlp_ratio=mlp_ratio(int(width * values.get("mlp_ratio", 4.0)), width),
        activation=activation,
        mean=tuple(pictures.get("mean", OPENAI_MEAN)),
        std=tuple(pictures.get("std", OPENAI_STD)),
    )


def _require_plain(where: str, values: Json, known: set[str], fixed: dict[str, Any]) -> None:
    require_fixed(values, fixed)
    wrong = [
        f"{where}.{field} is {value!r}, which cannot be built"
        for field, value in values.items()
        if value and field not in known | fixed.keys() | _HARMLESS
    ]
    if wrong:
        raise UnsupportedConfigError(wrong)
