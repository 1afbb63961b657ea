"""Stable Diffusion of KerasCV 0.9, from its .h5 files or from live models.

KerasCV's weights have no stable names: layers are numbered as they are made, and a file lists them
from the input to the output. So a layer is recognised by the shapes and kinds of its weights, and
its place by its order among the layers of its kind, which a network's only path from input to
output fixes. The widths are measured on the way.
"""

import dataclasses
import pathlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import h5py
import numpy as np

from tfsnap.config import (
    AutoencoderConfig,
    ClipTextConfig,
    Config,
    ScheduleConfig,
    StageConfig,
    UNetConfig,
)
from tfsnap.weights.component import AUTOENCODER, TEXT_ENCODER, UNET, Component, Report
from tfsnap.weights.lazy import LazyTensor
from tfsnap.weights.tensors import WeightFileError

_GROUPS = 32  # Of every norm in KerasCV.
_HEADS, _HEAD_WIDTH = 8, 64  # Of the first UNet; of the second and of the text encoders.

_NORM, _LAYER = ("gamma", "beta"), ("kernel", "bias")


def _weights(*parts: tuple[str, tuple[str, ...]]) -> list[str]:
    return [f"{layer}.{weight}" for layer, weights in parts for weight in weights]


def _attention(name: str) -> list[tuple[str, tuple[str, ...]]]:
    projections = [(f"{name}.{part}", ("kernel",)) for part in ("query", "key", "value")]
    return [*projections, (f"{name}.out", _LAYER)]


# The weights of KerasCV's layers in their order, by our names behind the layer's address.
_RESNET = _weights(("norm1", _NORM), ("conv1", _LAYER), ("norm2", _NORM), ("conv2", _LAYER))
_TIMED = [*_RESNET[:4], *_weights(("time", _LAYER)), *_RESNET[4:]]
_SHORTCUT = _weights(("shortcut", _LAYER))
_TRANSFORMER = _weights(
    ("norm", _NORM),
    ("proj_in", _LAYER),
    ("norm1", _NORM),
    *_attention("self_attention"),
    ("norm2", _NORM),
    *_attention("cross_attention"),
    ("norm3", _NORM),
    ("feed_forward.up", _LAYER),
    ("feed_forward.down", _LAYER),
    ("proj_out", _LAYER),
)
_TEXT_LAYER = _weights(
    ("norm1", _NORM),
    *((f"attention.{part}", _LAYER) for part in ("query", "key", "value", "out")),
    ("norm2", _NORM),
    ("mlp.up", _LAYER),
    ("mlp.down", _LAYER),
)
_MIDDLE_ATTENTION = _weights(
    ("norm", _NORM), *((part, _LAYER) for part in ("query", "key", "value", "out"))
)


@dataclasses.dataclass(frozen=True)
class KerasLayer:
    """A layer of KerasCV that has weights.

    Attributes:
      name: its name, for messages.
      weights: in their order.
      kinds: the last part of each weight's name: kernel, bias, gamma, beta, embeddings.
    """

    name: str
    weights: list[LazyTensor]
    kinds: list[str]

    def rank(self, i: int = 0) -> int:
        """How many axes a weight has."""
        return len(self.weights[i].shape)

    def named(self, address: str, names: Sequence[str]) -> dict[str, LazyTensor]:
        """Gives the weights our addresses.

        Raises:
          WeightFileError: there are more or fewer, or they are in another order.
        """
        if [name.rpartition(".")[2] for name in names] != self.kinds:
            raise WeightFileError(
                f"layer {self.name} has weights {self.kinds}; as {address}, {len(names)} others "
                "are expected"
            )
        found = zip(names, self.weights, strict=True)
        return {f"{address}.{name}": _reshaped(name, weight) for name, weight in found}


def _reshaped(name: str, weight: LazyTensor) -> LazyTensor:
    """1x1 convolutions of the autoencoder's attention are linear here; SD 2's are the reverse."""
    linear = name in _MIDDLE_ATTENTION
    if len(weight.shape) == 4 and linear:
        shape = weight.shape[2:]
    elif len(weight.shape) == 2 and name.startswith("proj_"):
        shape = (1, 1, *weight.shape)
    else:
        return weight
    return weight.map(shape, lambda array: array.reshape(shape))


def layers_of_file(path: pathlib.Path) -> list[KerasLayer]:
    """Lists the layers with weights of an .h5 file.

    Raises:
      WeightFileError: the file is damaged or is of another kind.
    """
    try:
        with h5py.File(path) as file:
            if "layer_names" not in file.attrs:
                raise WeightFileError(
                    f"{path} does not list its layers; save it with model.save_weights('NAME.h5') "
                    "of Keras 2 (not '.weights.h5')"
                )
            names = [_text(name) for name in file.attrs["layer_names"]]
            layers = [(name, list(_datasets(path, file[name]))) for name in names]
    except (OSError, KeyError, RuntimeError, TypeError) as error:  # h5py has no error of its own.
        raise WeightFileError(f"{path}: truncated, or no HDF5 file ({error})") from error
    return [
        KerasLayer(name, [tensor for _, tensor in found], [kind for kind, _ in found])
        for name, found in layers
        if found
    ]


def _text(value: Any) -> str:
    return value.decode() if isinstance(value, bytes) else str(value)


def _datasets(path: pathlib.Path, group: h5py.Group) -> Iterator[tuple[str, LazyTensor]]:
    for name in map(_text, group.attrs["weight_names"]):
        dataset = group[name]

        def read(at: str = dataset.name) -> np.ndarray:
            with h5py.File(path) as file:
                return file[at][()]

        kind = name.rpartition("/")[2].partition(":")[0]
        yield kind, LazyTensor(dataset.shape, dataset.dtype, read)


def layers_of_model(model: Any) -> list[KerasLayer]:
    """Lists the layers with weights of a live Keras model."""
    found = []
    for layer in model.layers:
        weights = [
            LazyTensor(tuple(w.shape), np.dtype(w.dtype.as_numpy_dtype), w.numpy)
            for w in layer.weights
        ]
        kinds = [w.name.rpartition("/")[2].partition(":")[0] for w in layer.weights]
        if weights:
            found.append(KerasLayer(layer.name, weights, kinds))
    return found


def read_keras_cv(path: pathlib.Path, networks: Sequence[str]) -> list[Component]:
    """Reads networks from KerasCV's .h5 files.

    Args:
      path: one file, or a folder of them; which is which shows in their layers.
      networks: which to read. The autoencoder needs the decoder's file and the image encoder's.

    Raises:
      WeightFileError: a file is missing or damaged.
      WeightMismatchError: tensors do not fit; lists everything.
    """
    files = [path]
    if path.is_dir():
        files = sorted(p for p in path.iterdir() if p.suffix in (".h5", ".hdf5"))
    return _components(path, ((file.name, layers_of_file(file)) for file in files), networks)


def read_keras_cv_models(models: Sequence[Any], networks: Sequence[str]) -> list[Component]:
    """As `read_keras_cv`, from live models in any order.

    Args:
      models: such as `StableDiffusion().diffusion_model`, `.text_encoder`, `.decoder` and
        `.image_encoder`.
      networks: which to read.
    """
    named = ((model.name, layers_of_model(model)) for model in models)
    return _components("The KerasCV models", named, networks)


def _components(
    source: object, files: Iterator[tuple[str, list[KerasLayer]]], networks: Sequence[str]
) -> list[Component]:
    parts: dict[str, list[tuple[str, list[KerasLayer]]]] = {}
    for name, layers in files:
        if layers:
            parts.setdefault(_recognised(layers), []).append((name, layers))
    report, components = Report(), []
    needed = {UNET: ("unet",), TEXT_ENCODER: ("text_encoder",)}
    needed[AUTOENCODER] = ("image_encoder", "decoder")
    for network in networks:
        wrong = [line for part in needed[network] for line in _not_one(part, parts)]
        if wrong:
            report.add(network, wrong)
            continue
        try:
            config, tensors = _READERS[network](*(parts[part][0][1] for part in needed[network]))
        except (IndexError, WeightFileError, ValueError) as error:
            report.add(network, [f"its layers are not those of Stable Diffusion: {error}"])
            continue
        components.append(
            report.component(
                network,
                config,
                tensors,
                name=lambda row: row.address,
                torch=False,
                about=_about(network),
            )
        )
    report.check(source)
    return components


def _not_one(part: str, parts: Mapping[str, list[tuple[str, Any]]]) -> list[str]:
    """Why it is not clear what to read a part from."""
    names = [name for name, _ in parts.get(part, [])]
    if not names:
        return [f"there is no {part} among {sorted(parts)}"]
    return [f"{' and '.join(names)} hold one {part} each: give one of them"] if names[1:] else []


def _about(network: str) -> dict[str, Any]:
    if network == UNET:
        schedule = ScheduleConfig().to_dict()
        return {"prediction": "epsilon", "schedule": schedule, "resolution": [512, 512]}
    return {"pad_token": 49407} if network == TEXT_ENCODER else {"resolution": 512}


def _recognised(layers: list[KerasLayer]) -> str:
    """Which part of Stable Diffusion these layers are."""
    if "embeddings" in layers[0].kinds:
        return "text_encoder"
    if any(len(layer.weights) == len(_TRANSFORMER) for layer in layers):
        return "unet"
    return "image_encoder" if layers[0].weights[0].shape[2:3] == (3,) else "decoder"


def _unet(layers: list[KerasLayer]) -> tuple[Config, dict[str, LazyTensor]]:
    time = [layer for layer in layers if layer.rank() == 2]
    norms = [layer for layer in layers if len(layer.weights) == 2 and layer.rank() == 1]
    path = [layer for layer in layers if layer not in time and layer not in norms]
    convolutions = [layer for layer in path if len(layer.weights) == 2]
    blocks = [layer for layer in path if len(layer.weights) > 2]
    config, order = _measured_unet(path)
    tensors = time[0].named("time.in", _LAYER) | time[1].named("time.out", _LAYER)
    tensors |= norms[0].named("norm_out", _NORM)
    last = len(config.down) - 1
    names = ["conv_in", *(f"down.{i}.downsample.conv" for i in range(last))]
    names += [*(f"up.{i}.upsample.conv" for i in range(last)), "conv_out"]
    for layer, name in zip(convolutions, names, strict=True):
        tensors |= layer.named(name, _LAYER)
    for layer, name in zip(blocks, order, strict=True):
        tensors |= layer.named(name, _block_weights(layer))
    return config, tensors


def _block_weights(layer: KerasLayer) -> list[str]:
    if len(layer.weights) == len(_TRANSFORMER):
        return _TRANSFORMER
    return _TIMED + (_SHORTCUT if len(layer.weights) > len(_TIMED) else [])


def _measured_unet(path: list[KerasLayer]) -> tuple[UNetConfig, list[str]]:
    """Returns the config, and the addresses of ResNets and attentions in their order."""
    counts = [len(layer.weights) for layer in path]
    stages = counts.count(2) // 2  # conv_in, conv_out and what lies between stages, twice.
    resnets = sum(count > 2 and count != len(_TRANSFORMER) for count in counts)
    down_resnets = (resnets - 2 - stages) // 2
    runs: list[list[list[KerasLayer]]] = [[]]  # Stages of [ResNet, attentions ...].
    for layer in path[1:-1]:
        started = sum(map(len, runs))
        if len(layer.weights) == len(_TRANSFORMER):
            runs[-1][-1].append(layer)
        elif len(layer.weights) == 2:
            runs.append([])
        else:
            if started in (down_resnets, down_resnets + 2):
                runs.append([])  # The middle begins, and ends, without a change of resolution.
            runs[-1].append([layer])
    shapes = [_stage(run) for run in runs]
    names = [*(f"down.{i}" for i in range(stages)), "mid", *(f"up.{i}" for i in range(stages))]
    attention = next(layer for layer in path if len(layer.weights) == len(_TRANSFORMER))
    key = attention.weights[_TRANSFORMER.index("cross_attention.key.kernel")]
    config = UNetConfig(
        down=tuple(shapes[:stages]),
        mid=shapes[stages],
        up=tuple(shapes[stages + 1 :]),
        in_channels=path[0].weights[0].shape[2],
        out_channels=path[-1].weights[0].shape[3],
        context_width=key.shape[0],
        heads=_HEADS,
        head_width=_HEAD_WIDTH if attention.rank(2) == 2 else None,
        groups=_GROUPS,
    )
    order = []
    for name, run in zip(names, runs, strict=True):
        for j, (_, *attentions) in enumerate(run):
            order.append(f"{name}.resnets.{j}")
            order += [f"{name}.attentions.{j}.{k}" for k in range(len(attentions))]
    return config, order


def _stage(run: list[list[KerasLayer]]) -> StageConfig:
    channels = run[0][0].weights[2].shape[3]  # Of the first convolution's kernel.
    return StageConfig(channels, len(run), tuple(len(block) - 1 for block in run))


def _text_encoder(layers: list[KerasLayer]) -> tuple[Config, dict[str, LazyTensor]]:
    embedding, *blocks, last = layers
    (vocabulary, width), (length, _) = (weight.shape for weight in embedding.weights)
    config = ClipTextConfig(
        vocab_size=vocabulary,
        context_length=length,
        width=width,
        layers=len(blocks),
        heads=max(1, width // _HEAD_WIDTH),
        mlp_ratio=blocks[0].weights[-4].shape[1] // width,
        activation="gelu" if len(blocks) > 12 else "quick_gelu",  # The second's has 23 layers.
    )
    tensors = {
        "text.token_embedding": embedding.weights[0],
        "text.position_embedding": embedding.weights[1],
        **last.named("text.norm_out", _NORM),
    }
    for i, layer in enumerate(blocks):
        tensors |= layer.named(f"text.layers.{i}", _TEXT_LAYER)
    return config, tensors


def _autoencoder(
    encoder: list[KerasLayer], decoder: list[KerasLayer]
) -> tuple[Config, dict[str, LazyTensor]]:
    down = _runs(encoder[1:-6])  # Between conv_in and: mid (3), norm, conv_out, quant_conv.
    up = _runs(decoder[5:-2])  # Between post_quant_conv, conv_in, mid (3) and: norm, conv_out.
    config = AutoencoderConfig(
        channels=tuple(run[-1].weights[2].shape[3] for run in down),
        decoder_channels=tuple(run[-1].weights[2].shape[3] for run in up)[::-1],
        resnets=len(down[0]),
        latent_channels=decoder[0].weights[0].shape[3],
        groups=_GROUPS,
    )
    tensors: dict[str, LazyTensor] = {}
    names = [*_stage_names("encoder.down", down, "downsample"), *_middle_names("encoder")]
    names = ["encoder.conv_in", *names, "encoder.norm_out", "encoder.conv_out", "quant_conv"]
    tensors |= _in_order(encoder, names)
    names = ["post_quant_conv", "decoder.conv_in", *_middle_names("decoder")]
    names += [*_stage_names("decoder.up", up, "upsample"), "decoder.norm_out", "decoder.conv_out"]
    return config, tensors | _in_order(decoder, names)


def _runs(layers: list[KerasLayer]) -> list[list[KerasLayer]]:
    """The ResNets of each stage; a convolution ends a stage."""
    runs: list[list[KerasLayer]] = [[]]
    for layer in layers:
        if len(layer.weights) == 2:
            runs.append([])
        else:
            runs[-1].append(layer)
    return runs


def _stage_names(at: str, runs: list[list[KerasLayer]], resample: str) -> Iterator[str]:
    for i, run in enumerate(runs):
        yield from (f"{at}.{i}.resnets.{j}" for j in range(len(run)))
        if i < len(runs) - 1:
            yield f"{at}.{i}.{resample}.conv"


def _middle_names(side: str) -> list[str]:
    return [f"{side}.mid.resnets.0", f"{side}.mid.attention", f"{side}.mid.resnets.1"]


def _in_order(layers: list[KerasLayer], names: list[str]) -> dict[str, LazyTensor]:
    tensors: dict[str, LazyTensor] = {}
    for layer, name in zip(layers, names, strict=True):
        if name.endswith(".attention"):
            weights = _MIDDLE_ATTENTION
        elif ".resnets." in name:
            weights = _RESNET + (_SHORTCUT if len(layer.weights) > len(_RESNET) else [])
        else:
            weights = list(_NORM if name.endswith("norm_out") else _LAYER)
        tensors |= layer.named(name, weights)
    return tensors


_READERS: Mapping[str, Callable[..., tuple[Config, dict[str, LazyTensor]]]] = {
    UNET: _unet,
    TEXT_ENCODER: _text_encoder,
    AUTOENCODER: _autoencoder,
}
