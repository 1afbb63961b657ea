"""The graphs of a bundle, traced from Keras models: batch 1, static shapes."""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import tensorflow as tf

from tfsnap.models.autoencoder import Autoencoder
from tfsnap.models.blocks import Block, build_block
from tfsnap.models.clip import TextEncoder
from tfsnap.models.latent_diffusion import LatentDiffusion
from tfsnap.models.unet import UNet
from tfsnap.weights.lazy import LazyTensor
from tfsnap.weights.store import in_memory


@dataclasses.dataclass(frozen=True)
class Graph:
    """One component of a bundle.

    Attributes:
      name: "text_encoder", "unet", "decoder" or "encoder".
      function: named tensors to a dict of named tensors, a `tf.function`.
      inputs: shape and type of each argument.
      variables: the variables that the function reads.
      values: what the variables hold, by address; read when it is needed.
    """

    name: str
    function: Callable[..., dict[str, tf.Tensor]]
    inputs: dict[str, tf.TensorSpec]
    variables: list[tf.Variable]
    values: Mapping[str, LazyTensor]

    def concrete(self) -> tf.types.experimental.ConcreteFunction:
        """Traces the graph."""
        return self.function.get_concrete_function(**self.inputs)

    def run(self, **arrays: np.ndarray) -> dict[str, np.ndarray]:
        """Evaluates the graph with Keras' weights, float32."""
        outputs = self.function(**{name: tf.constant(array) for name, array in arrays.items()})
        return {name: tensor.numpy() for name, tensor in outputs.items()}


def component_graphs(
    model: LatentDiffusion,
    values: Mapping[str, LazyTensor] | None = None,
    *,
    contexts: int = 1,
) -> dict[str, Graph]:
    """Returns the graphs of text encoder, UNet (one evaluation), decoder and encoder, by name.

    Args:
      model: the networks.
      values: what their variables hold, by address, where the networks themselves hold nothing.
      contexts: how many of them the UNet takes at once, see `unet_graph`.
    """
    height, width, _ = model.latent_shape
    length = model.text_encoder.config.context_length
    latent = (height, width)
    return {
        "text_encoder": text_graph(model.text_encoder, values=values),
        "unet": unet_graph(
            model.unet, latent=latent, tokens=length, contexts=contexts, values=values
        ),
        "decoder": decoder_graph(model.autoencoder, latent=latent, values=values),
        "encoder": encoder_graph(model.autoencoder, size=model.resolution, values=values),
    }


def text_graph(
    text_encoder: TextEncoder, *, values: Mapping[str, LazyTensor] | None = None
) -> Graph:
    """Returns the graph of encoding a prompt; for `values` see `component_graphs`."""
    return _graph(
        "text_encoder",
        lambda tokens: {"context": text_encoder(tokens)},
        {"tokens": ([1, text_encoder.config.context_length], tf.int32)},
        text_encoder,
        values,
    )


def encoder_graph(
    autoencoder: Autoencoder,
    *,
    size: tuple[int, int],
    values: Mapping[str, LazyTensor] | None = None,
) -> Graph:
    """Returns the graph of encoding a picture to the mean latent, not yet scaled.

    Args:
      autoencoder: the network.
      size: height and width of the picture.
      values: see `component_graphs`.
    """
    encoder = autoencoder.encoder
    return _graph(
        "encoder",
        lambda image: {"latent": encoder(image)[0]},
        {"image": ([1, *size, 3], tf.float32)},
        encoder,
        values,
    )


def decoder_graph(
    autoencoder: Autoencoder,
    *,
    latent: tuple[int, int],
    values: Mapping[str, LazyTensor] | None = None,
) -> Graph:
    """Returns the graph of decoding.

    Args:
      autoencoder: the network.
      latent: height and width of the latent.
      values: see `component_graphs`.
    """
    decoder = autoencoder.decoder
    shape = [1, *latent, autoencoder.config.latent_channels]
    return _graph(
        "decoder",
        lambda latent: {"image": decoder(latent)},
        {"latent": (shape, tf.float32)},
        decoder,
        values,
    )


def unet_graph(
    unet: UNet,
    *,
    latent: tuple[int, int],
    tokens: int,
    contexts: int = 1,
    values: Mapping[str, LazyTensor] | None = None,
) -> Graph:
    """Returns the graph of one evaluation.

    Args:
      unet: the network.
      latent: height and width of the latent.
      tokens: length of the text embedding.
      contexts: how many of them it takes at once: 2 is guidance in one call. There is one latent
        and one time for all, and a prediction for each.
      values: see `component_graphs`.
    """
    config = unet.config
    inputs = {
        "latent": ([1, *latent, config.in_channels], tf.float32),
        "time_features": ([1, 1, config.time_width], tf.float32),
        "context": ([contexts, tokens, config.context_width], tf.float32),
    }
    if config.guidance_width is not None:
        inputs["guidance_features"] = ([1, 1, config.guidance_width], tf.float32)

    def predict(
        latent: tf.Tensor,
        time_features: tf.Tensor,
        context: tf.Tensor,
        guidance_features: tf.Tensor | None = None,
    ) -> dict[str, tf.Tensor]:
        # One latent for each context: GPUs compute batches that are broadcast wrong.
        latents = tf.concat([latent] * contexts, axis=0) if contexts > 1 else latent
        told = {"features": time_features, "guidance": guidance_features}
        return {"prediction": unet.denoise(latents, context=context, **told)}

    return _graph("unet", predict, inputs, unet, values)


def block_graph(block: Block) -> Graph:
    """Returns the graph of one block of a UNet by itself, randomly initialised."""
    alone = build_block(block)
    holder = tf.Module()
    holder.layers = alone.layers
    inputs = {name: (shape, tf.float32) for name, shape in alone.inputs.items()}
    return _graph(block.kind, lambda **maps: {"y": alone.function(**maps)}, inputs, holder)


def _graph(
    name: str,
    function: Callable[..., Any],
    inputs: dict[str, tuple],
    network: tf.Module,
    values: Mapping[str, LazyTensor] | None = None,
) -> Graph:
    specs = {key: tf.TensorSpec(shape, dtype, name=key) for key, (shape, dtype) in inputs.items()}
    variables = list(network.variables)
    if values is None:
        values = in_memory(variables)
    return Graph(name, tf.function(function), specs, variables, values)
