"""The original layout of Stable Diffusion: one file with the three networks under prefixes.

The file has no configs: the networks are measured from the shapes of their tensors.
"""

import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

from tfsnap.config import (
    AutoencoderConfig,
    ClipTextConfig,
    ScheduleConfig,
    StageConfig,
    UNetConfig,
)
from tfsnap.weights.component import AUTOENCODER, TEXT_ENCODER, UNET, Component, Report
from tfsnap.weights.lazy import LazyTensor
from tfsnap.weights.names.text_encoder import PREFIX
from tfsnap.weights.open_clip import text_names
from tfsnap.weights.open_file import open_file
from tfsnap.weights.tensors import WeightFileError

_PREFIXES = {
    UNET: "model.diffusion_model.",
    AUTOENCODER: "first_stage_model.",
    TEXT_ENCODER: "cond_stage_model.",
}
_GROUPS = 32  # Of every network in this layout; shapes do not show it.
_HEADS = 8  # Of Stable Diffusion 1's UNet.
_HEAD_WIDTH = 64  # Of Stable Diffusion 2's UNet and of every text encoder.

Tensors = Mapping[str, LazyTensor]


def read_single_file(path: pathlib.Path, networks: Sequence[str]) -> list[Component]:
    """Reads networks from an original checkpoint.

    Args:
      path: a .safetensors file, or a .ckpt.
      networks: which to read. Nothing says what the UNet predicts.

    Raises:
      WeightFileError: the file is missing or damaged, or its pickle asks for more than tensors.
      WeightMismatchError: a network is missing, or its tensors do not fit; lists everything.
    """
    found = open_file(path)
    report, components = Report(), []
    for network in networks:
        prefix = _PREFIXES[network]
        inner = {k.removeprefix(prefix): t for k, t in found.items() if k.startswith(prefix)}
        if not inner:
            report.add(network, [f"the file holds no tensor called {prefix}..."])
            continue
        try:
            components.append(_component(report, network, inner))
        except KeyError as error:
            report.add(network, [f"its shape cannot be measured without the missing {error}"])
        except (WeightFileError, ValueError) as error:
            report.add(network, [str(error)])
    report.check(path)
    return components


def _component(report: Report, network: str, tensors: dict[str, LazyTensor]) -> Component:
    if network == UNET:
        config = measure_unet(tensors)
        second = config.head_width is not None
        about: dict[str, Any] = {
            "schedule": ScheduleConfig().to_dict(),
            "resolution": [768, 768] if second else [512, 512],
        }
        return report.component(network, config, tensors, name=lambda row: row.ldm, about=about)
    if network == AUTOENCODER:
        tensors = {k: t for k, t in tensors.items() if not k.startswith(("loss.", "model_ema."))}
        config = measure_autoencoder(tensors)
        return report.component(network, config, tensors, name=lambda row: row.ldm)
    second = "model.positional_embedding" in tensors
    named = text_names(tensors) if second else _from_clip(tensors)
    config = measure_text_encoder(named, "gelu" if second else "quick_gelu")
    about = {"pad_token": 0 if second else 49407}
    return report.component(network, config, named, name=lambda row: row.diffusers, about=about)


def measure_unet(tensors: Tensors) -> UNetConfig:
    """Returns the config of a UNet in the original layout.

    Raises:
      KeyError: a tensor that shows a width is missing.
    """
    linear, context = False, None
    for name, tensor in tensors.items():
        if name.endswith("attn2.to_k.weight"):
            context = tensor.shape[1]
        elif name.endswith(".1.proj_in.weight"):
            linear = len(tensor.shape) == 2
    if context is None:
        raise KeyError("attn2.to_k.weight")
    down = _down_stages(tensors)
    scale = tensors.get("time_embed.cond_proj.weight")
    up, n = [], 0
    for stage in reversed(down):
        count = stage.resnets + 1
        has = [f"output_blocks.{n + j}.1.proj_in.weight" in tensors for j in range(count)]
        up.append(StageConfig(stage.channels, count, tuple(map(int, has))))
        n += count
    return UNetConfig(
        down=tuple(down),
        mid=StageConfig(down[-1].channels, 2, (1, 0)),
        up=tuple(up),
        in_channels=tensors["input_blocks.0.0.weight"].shape[1],
        out_channels=tensors["out.2.weight"].shape[0],
        context_width=context,
        heads=_HEADS,
        head_width=_HEAD_WIDTH if linear else None,
        groups=_GROUPS,
        guidance_width=scale.shape[1] if scale is not None else None,
    )


def _down_stages(tensors: Tensors) -> list[StageConfig]:
    stages, channels, attentions, n = [], 0, [], 1
    while True:
        convolution = tensors.get(f"input_blocks.{n}.0.in_layers.2.weight")
        if convolution is not None:
            channels = convolution.shape[0]
            attentions.append(int(f"input_blocks.{n}.1.proj_in.weight" in tensors))
        elif attentions:
            stages.append(StageConfig(channels, len(attentions), tuple(attentions)))
            attentions = []
        if convolution is None and f"input_blocks.{n}.0.op.weight" not in tensors:
            break
        n += 1
    if not stages:
        raise KeyError("input_blocks.1.0.in_layers.2.weight")
    return stages


def measure_autoencoder(tensors: Tensors) -> AutoencoderConfig:
    """Returns the config of an autoencoder in the original layout.

    Raises:
      KeyError: a tensor that shows a width is missing.
    """
    widths: dict[str, list[int]] = {"encoder.down": [], "decoder.up": []}
    for side, channels in widths.items():
        while f"{side}.{len(channels)}.block.0.conv1.weight" in tensors:
            channels.append(tensors[f"{side}.{len(channels)}.block.0.conv1.weight"].shape[0])
        if not channels:
            raise KeyError(f"{side}.0.block.0.conv1.weight")
    resnets = 1
    while f"encoder.down.0.block.{resnets}.conv1.weight" in tensors:
        resnets += 1
    return AutoencoderConfig(
        channels=tuple(widths["encoder.down"]),
        decoder_channels=tuple(widths["decoder.up"]),
        resnets=resnets,
        latent_channels=tensors["post_quant_conv.weight"].shape[0],
        groups=_GROUPS,
    )


def measure_text_encoder(tensors: Tensors, activation: str) -> ClipTextConfig:
    """Returns the config of a text encoder whose tensors have diffusers' names.

    Raises:
      KeyError: a tensor that shows a width is missing.
      ValueError: its width is that of no whole number of heads.
    """
    vocabulary, width = tensors[f"{PREFIX}embeddings.token_embedding.weight"].shape
    if width % _HEAD_WIDTH or not width:
        raise ValueError(f"it is {width} wide, and heads in this layout are {_HEAD_WIDTH} wide")
    layers = {name.split(".")[3] for name in tensors if ".encoder.layers." in name}
    return ClipTextConfig(
        vocab_size=vocabulary,
        context_length=tensors[f"{PREFIX}embeddings.position_embedding.weight"].shape[0],
        width=width,
        layers=len(layers),
        heads=width // _HEAD_WIDTH,
        mlp_ratio=tensors[f"{PREFIX}encoder.layers.0.mlp.fc1.bias"].shape[0] // width,
        activation=activation,
    )


def _from_clip(tensors: Tensors) -> dict[str, LazyTensor]:
    named = {k.removeprefix("transformer."): t for k, t in tensors.items()}
    named.pop(f"{PREFIX}embeddings.position_ids", None)
    return named
