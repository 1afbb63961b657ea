#!/usr/bin/env python3
"""Converts the weights of Stable Diffusion between layouts.

    tools/convert_weights.py --input=stable-diffusion-v1-5 --output=sd15
    tools/convert_weights.py --input=v1-5-pruned.ckpt --output=sd15 --dtype=float16
    tools/convert_weights.py --input=sd15 --output=sd15-hf --output_format=diffusers
    tools/convert_weights.py --input=clip-vit-large-patch14 --output=clip-l --component=clip

Reads a diffusers folder, the original single file (.safetensors or .ckpt), KerasCV's .h5 files and
tfsnap's own; a CLIP with both towers in a folder of transformers or OpenCLIP. Writes a folder of
tfsnap's files or of diffusers'. No tensor is read before it is written, so that memory holds one at
a time. The folder appears when everything in it is complete. See docs/weights.md.
"""

import pathlib
import sys
from collections.abc import Sequence

from absl import flags

# Programs are run from anywhere: the repository's root holds `tools`.
sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))

from tfsnap.data.fetch import fetch_merges
from tfsnap.tokenizer import LEAST_VOCAB_SIZE, VOCAB_SIZE, read_vocabulary
from tfsnap.weights import convert
from tfsnap.weights.clip_vocabulary import Vocabulary
from tfsnap.weights.component import AUTOENCODER, CLIP, TEXT_ENCODER, UNET, Component
from tfsnap.weights.diffusers_config import call_advice
from tfsnap.weights.lora import merge_lora
from tools.program import run_main
from tools.unused_flags import given, refuse

_COMPONENTS = {
    "all": (),
    "unet": (UNET,),
    "vae": (AUTOENCODER,),
    "text_encoder": (TEXT_ENCODER,),
    "clip": (CLIP,),
}

_INPUT = flags.DEFINE_string("input", None, "The file or folder to read.")
_INPUT_FORMAT = flags.DEFINE_enum(
    "input_format", "auto", ("auto", *convert.FORMATS), "Its layout; auto looks."
)
_OUTPUT = flags.DEFINE_string("output", None, "The folder to write; it must not exist.")
_OUTPUT_FORMAT = flags.DEFINE_enum(
    "output_format", convert.TFSNAP, (convert.TFSNAP, convert.DIFFUSERS), "Its layout."
)
_DTYPE = flags.DEFINE_enum(
    "dtype", None, ("float32", "float16"), "Type of the weights; by default as they are."
)
_COMPONENT = flags.DEFINE_enum("component", "all", tuple(_COMPONENTS), "Which network, or all.")
_PREDICTION = flags.DEFINE_enum(
    "prediction",
    None,
    ("epsilon", "v"),
    "What the UNet predicts, where the input does not say: the original layout does not, nor does "
    "a diffusers folder without its scheduler. It is taken to be v if the UNet has the shape of "
    "Stable Diffusion 2's, and else epsilon.",
)
_LORA = flags.DEFINE_string("lora", None, "A LoRA (.safetensors) to merge.")
_LORA_SCALE = flags.DEFINE_float("lora_scale", 1.0, "How strongly.")


def _require_used_flags(networks: Sequence[str]) -> None:
    """Refuses flags that would change nothing."""
    if _LORA_SCALE.present and not _LORA.value:
        raise ValueError(
            f"--lora_scale is {_LORA_SCALE.value:g} without a LoRA: name one by --lora"
        )
    if UNET not in networks:
        refuse(given(_PREDICTION), " and ".join(networks), "convert the UNet")


def _convert() -> list[str]:
    layout = _INPUT_FORMAT.value
    if layout == "auto":
        layout = convert.detect_format(_INPUT.value)
    networks = _COMPONENTS[_COMPONENT.value] or convert.networks_of(layout)
    _require_used_flags(networks)
    components = convert.read(_INPUT.value, layout, networks, prediction=_PREDICTION.value)
    if _LORA.value:
        components = merge_lora(components, _LORA.value, _LORA_SCALE.value)
    wants_tokenizer = _OUTPUT_FORMAT.value == convert.DIFFUSERS and TEXT_ENCODER in networks
    convert.write(
        components,
        _OUTPUT.value,
        _OUTPUT_FORMAT.value,
        dtype=_DTYPE.value,
        vocabulary=_vocabulary(components) if wants_tokenizer else None,
    )
    lines = [f"{part.network:12}  {part.parameters:13,} parameters" for part in components]
    lines += [note for part in components for note in part.notes]
    return lines + (_advice(components) if _OUTPUT_FORMAT.value == convert.DIFFUSERS else [])


def _advice(components: list[Component]) -> list[str]:
    """What the user must tell diffusers, as no file of its layout does."""
    advice = [call_advice(part.about) for part in components if part.network == UNET]
    return [line for line in advice if line]


def _vocabulary(components: list[Component]) -> Vocabulary:
    """CLIP's, or the part of it that a text encoder with a smaller one has."""
    (size,) = (part.config.vocab_size for part in components if part.network == TEXT_ENCODER)
    known = LEAST_VOCAB_SIZE <= size <= VOCAB_SIZE  # Others were made for other tokenizers.
    return read_vocabulary(fetch_merges(), size if known else VOCAB_SIZE)


def main() -> None:
    lines = _convert()
    print(*lines, f"Written to {_OUTPUT.value} ({_OUTPUT_FORMAT.value})", sep="\n")


if __name__ == "__main__":
    flags.mark_flags_as_required(["input", "output"])
    run_main(main)
