"""Weight files that describe their network, so that one path is enough to build it again."""

import os
from collections.abc import Mapping
from typing import Any, NamedTuple

import tf_keras as keras

from tfsnap.config import AutoencoderConfig, ClipConfig, ClipTextConfig, UNetConfig
from tfsnap.models.autoencoder import build_autoencoder
from tfsnap.models.clip import build_clip, build_text_encoder
from tfsnap.models.latent_diffusion import Distilled
from tfsnap.models.unet import build_unet
from tfsnap.models.weightless import build_weightless
from tfsnap.weights.component import damaged, read_config
from tfsnap.weights.lazy import LazyTensor, open_safetensors
from tfsnap.weights.store import WeightFileError, assign, load_tensors, require_fit
from tfsnap.weights.tensors import parsed

_BUILDERS = {
    "autoencoder": (AutoencoderConfig, build_autoencoder),
    "clip": (ClipConfig, build_clip),
    "text_encoder": (ClipTextConfig, build_text_encoder),
    "unet": (UNetConfig, build_unet),
}


class Trained(NamedTuple):
    """A network with its trained weights.

    Attributes:
      model: the Keras model; its config is `model.config`.
      about: the rest of the file's description, such as the UNet's parametrisation.
    """

    model: keras.Model
    about: dict[str, Any]


class Opened(NamedTuple):
    """A network that is only described: its weights are still in the file.

    Attributes:
      model: the Keras model, see `tfsnap.models.weightless`.
      about: as in `Trained`.
      values: what its variables hold, by address.
    """

    model: keras.Model
    about: dict[str, Any]
    values: dict[str, LazyTensor]


def describe(model: keras.Model, **about: Any) -> dict[str, Any]:
    """Metadata that `load_trained` needs; `about` holds further JSON values."""
    return {"network": model.name, "config": model.config.to_dict(), **about}


def load_trained(path: str | os.PathLike, *networks: str) -> Trained:
    """Builds a network from a weight file and fills it.

    Args:
      path: a `weights.safetensors` written by the trainer, or a file of tools/convert_weights.py.
      *networks: "autoencoder", "clip", "text_encoder" or "unet": what the caller expects, one of
        several; `model.name` tells which it is.

    Raises:
      WeightFileError: the file is missing, damaged, without description, or holds another network.
      WeightMismatchError: the tensors do not fit the description.
    """
    tensors, about = load_tensors(path)
    model = _build(path, about, networks)
    assign(tensors, model.variables, source=str(path))
    return Trained(model, about)


def open_trained(path: str | os.PathLike, *networks: str) -> Opened:
    """As `load_trained`, without reading a weight."""
    values, header = open_safetensors(path)
    about = parsed(path, header)
    model = build_weightless(lambda: _build(path, about, networks))
    require_fit(values, model.variables, source=str(path))
    return Opened(model, about, values)


def read_distilled(path: str | os.PathLike, about: Mapping[str, Any]) -> Distilled | None:
    """What a UNet's file says that it was distilled for.

    Raises:
      WeightFileError: that is nothing that a UNet can be distilled for.
    """
    try:
        return Distilled.of(about)
    except ValueError as error:
        raise damaged(path, error) from error


def _build(
    path: str | os.PathLike, about: dict[str, Any], networks: tuple[str, ...]
) -> keras.Model:
    """Takes the network and its config out of a file's description and builds it."""
    found = about.pop("network", None)
    if found not in networks:
        raise WeightFileError(
            f"{path} holds {found or 'a network that it does not describe'}; expected "
            f"{' or '.join(networks)}"
        )
    config_type, build = _BUILDERS[found]
    return build(read_config(path, config_type, about.pop("config", None)))
