"""OpenCLIP's tensors under transformers' names.

It is also the layout of OpenAI's own files, and of the text encoder in Stable Diffusion 2's.
"""

import re
from collections.abc import Mapping

import numpy as np

from tfsnap.weights.lazy import LazyTensor
from tfsnap.weights.names.clip import IMAGE_PREFIX
from tfsnap.weights.names.text_encoder import PREFIX

Tensors = Mapping[str, LazyTensor]

_IMAGE = "visual."  # Before the image tower's names; the text tower's have nothing.
_TEXT_NAMES = {
    "positional_embedding": "embeddings.position_embedding.weight",
    "token_embedding.weight": "embeddings.token_embedding.weight",
    "ln_final.weight": "final_layer_norm.weight",
    "ln_final.bias": "final_layer_norm.bias",
}
_IMAGE_NAMES = {
    "class_embedding": "embeddings.class_embedding",
    "positional_embedding": "embeddings.position_embedding.weight",
    "conv1.weight": "embeddings.patch_embedding.weight",
    "ln_pre.weight": "pre_layrnorm.weight",
    "ln_pre.bias": "pre_layrnorm.bias",
    "ln_post.weight": "post_layernorm.weight",
    "ln_post.bias": "post_layernorm.bias",
}
_BLOCK_NAMES = {
    "ln_1": "layer_norm1",
    "ln_2": "layer_norm2",
    "mlp.c_fc": "mlp.fc1",
    "mlp.c_proj": "mlp.fc2",
    "attn.out_proj": "self_attn.out_proj",
}
# Stored as [in, out], where a linear layer of PyTorch has [out, in].
_PROJECTIONS = {"text_projection": "text_projection", "visual.proj": "visual_projection"}
_NO_WEIGHTS = {"attn_mask", "input_resolution", "context_length", "vocab_size"}
_CONTRASTIVE = {"text_projection", "logit_scale"}  # What a text encoder alone has no use for.
_UNREAD_BLOCK = 23  # Of OpenCLIP's 24: Stable Diffusion 2 reads the one before it.
_BLOCK = re.compile(r"transformer\.resblocks\.(\d+)\.(.+)")


def clip_names(tensors: Tensors) -> dict[str, LazyTensor]:
    """Renames both towers; a name that is unknown stays as it is."""
    named: dict[str, LazyTensor] = {}
    for name, tensor in tensors.items():
        if name in _PROJECTIONS:
            turned = tensor.map(tensor.shape[::-1], np.transpose)
            named[f"{_PROJECTIONS[name]}.weight"] = turned
        elif name.startswith(_IMAGE):
            inner = name.removeprefix(_IMAGE)
            named |= _renamed(inner, tensor, IMAGE_PREFIX, _IMAGE_NAMES)
        elif name == "logit_scale":
            named[name] = tensor
        elif name not in _NO_WEIGHTS:
            named |= _renamed(name, tensor, PREFIX, _TEXT_NAMES)
    return named


def text_names(tensors: Tensors) -> dict[str, LazyTensor]:
    """Renames the text encoder of Stable Diffusion 2.

    The last block of a whole tower is left out: Stable Diffusion 2 reads the layer before it. A
    file that was made from diffusers' folder has neither that block nor the projection behind it.
    """
    inner = {name.removeprefix("model."): tensor for name, tensor in tensors.items()}
    blocks = [int(found[1]) for found in map(_BLOCK.fullmatch, inner) if found]
    last = max(blocks, default=0)
    whole = last == _UNREAD_BLOCK or "text_projection" in inner
    unread = f"transformer.resblocks.{last}." if whole else None
    named: dict[str, LazyTensor] = {}
    for name, tensor in inner.items():
        left_out = unread is not None and name.startswith(unread)
        if name not in _NO_WEIGHTS | _CONTRASTIVE and not left_out:
            named |= _renamed(name, tensor, PREFIX, _TEXT_NAMES)
    return named


def _renamed(
    name: str, tensor: LazyTensor, prefix: str, names: Mapping[str, str]
) -> dict[str, LazyTensor]:
    """What a tensor of a tower becomes: one matrix holds queries, keys and values."""
    block = _BLOCK.fullmatch(name)
    if block is None:
        return {prefix + names.get(name, name): tensor}
    at, inner = f"{prefix}encoder.layers.{block[1]}", block[2]
    part, _, kind = inner.rpartition(".")
    if inner.startswith("attn.in_proj_"):
        return _split_projection(f"{at}.self_attn", inner.split("_")[-1], tensor)
    return {f"{at}.{_BLOCK_NAMES.get(part, part)}.{kind}": tensor}


def _split_projection(at: str, kind: str, tensor: LazyTensor) -> dict[str, LazyTensor]:
    width = tensor.shape[0] // 3

    def part(i: int) -> LazyTensor:
        def cut(array: np.ndarray) -> np.ndarray:
            return array[i * width : (i + 1) * width]

        return tensor.map((width, *tensor.shape[1:]), cut)

    return {f"{at}.{p}_proj.{kind}": part(i) for i, p in enumerate("qkv")}
