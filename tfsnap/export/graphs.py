"""The graphs of a bundle, traced from Keras models: batch 1, static shapes."""

import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np
import tensorflow as tf

from tfsnap.models.autoencoder import Autoencoder
from tfsnap.models.blocks import Block, build_block
from tfsnap.models.latent_diffusion import LatentDiffusion
from tfsnap.models.unet import UNet


@dataclasses.dataclass(frozen=True)
class Graph:
    """One component of a bundle.

    Attributes:
      name: "text_encoder", "unet", "decoder" or "encoder".
      function: named tensors to a dict of named tensors, a `tf.function`.
      inputs: shape and type of each argument.
      weights: the variables that the function reads.
    """

    name: str
    function: Callable[..., dict[str, tf.Tensor]]
    inputs: dict[str, tf.TensorSpec]
    weights: list[tf.Variable]

    def concrete(self) -> tf.types.experimental.ConcreteFunction:
        """Traces the graph."""
        return self.function.get_concrete_function(**self.inputs)

    def run(self, **arrays: np.ndarray) -> dict[str, np.ndarray]:
        """Evaluates the graph with Keras' weights, float32."""
        outputs = self.function(**{name: tf.constant(array) for name, array in arrays.items()})
        return {name: tensor.numpy() for name, tensor in outputs.items()}


def component_graphs(model: LatentDiffusion, *, contexts: int = 1) -> dict[str, Graph]:
    """Returns the graphs of text encoder, UNet (one evaluation), decoder and encoder, by name.

    The encoder returns the mean latent, not yet scaled.

    Args:
      model: the networks.
      contexts: how many of them the UNet takes at once, see `unet_graph`.
    """
    text, encoder = model.text_encoder, model.autoencoder.encoder
    height, width, _ = model.latent_shape
    length = text.config.context_length
    return {
        "text_encoder": _graph(
            "text_encoder",
            lambda tokens: {"context": text(tokens)},
            {"tokens": ([1, length], tf.int32)},
            text,
        ),
        "unet": unet_graph(model.unet, latent=(height, width), tokens=length, contexts=contexts),
        "decoder": decoder_graph(model.autoencoder, latent=(height, width)),
        "encoder": _graph(
            "encoder",
            lambda image: {"latent": encoder(image)[0]},
            {"image": ([1, *model.resolution, 3], tf.float32)},
            encoder,
        ),
    }


def decoder_graph(autoencoder: Autoencoder, *, latent: tuple[int, int]) -> Graph:
    """Returns the graph of decoding.

    Args:
      autoencoder: the network.
      latent: height and width of the latent.
    """
    decoder = autoencoder.decoder
    shape = [1, *latent, autoencoder.config.latent_channels]
    return _graph(
        "decoder",
        lambda latent: {"image": decoder(latent)},
        {"latent": (shape, tf.float32)},
        decoder,
    )


def unet_graph(unet: UNet, *, latent: tuple[int, int], tokens: int, contexts: int = 1) -> Graph:
    """Returns the graph of one evaluation.

    Args:
      unet: the network.
      latent: height and width of the latent.
      tokens: length of the text embedding.
      contexts: how many of them it takes at once: 2 is guidance in one call. There is one latent
        and one time for all, and a prediction for each.
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

    return _graph("unet", predict, inputs, unet)


def block_graph(block: Block) -> Graph:
    """Returns the graph of one block of a UNet by itself, randomly initialised."""
    alone = build_block(block)
    holder = tf.Module()
    holder.layers = alone.layers
    inputs = {name: (shape, tf.float32) for name, shape in alone.inputs.items()}
    return _graph(block.kind, lambda **maps: {"y": alone.function(**maps)}, inputs, holder)


def _graph(
    name: str, function: Callable[..., Any], inputs: dict[str, tuple], network: tf.Module
) -> Graph:
    specs = {key: tf.TensorSpec(shape, dtype, name=key) for key, (shape, dtype) in inputs.items()}
    return Graph(name, tf.function(function), specs, list(network.variables))
