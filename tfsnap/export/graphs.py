"""The three graphs of a bundle, traced from Keras models: batch 1, static shapes."""

import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np
import tensorflow as tf

from tfsnap.models.latent_diffusion import LatentDiffusion


@dataclasses.dataclass(frozen=True)
class Graph:
    """One component of a bundle.

    Attributes:
      name: "text_encoder", "unet" or "decoder".
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


def component_graphs(model: LatentDiffusion) -> dict[str, Graph]:
    """Returns the graphs of text encoder, UNet (one evaluation) and decoder, by name."""
    text, unet, decoder = model.clip.text_encoder, model.unet, model.autoencoder.decoder
    latent = [1, *model.latent_shape]
    context = [1, text.config.context_length, text.config.width]
    return {
        "text_encoder": _graph(
            "text_encoder",
            lambda tokens: {"context": text(tokens)},
            {"tokens": ([1, text.config.context_length], tf.int32)},
            text,
        ),
        "unet": _graph(
            "unet",
            lambda latent, time_features, context: {
                "prediction": unet.denoise(latent, features=time_features, context=context)
            },
            {
                "latent": (latent, tf.float32),
                "time_features": ([1, 1, unet.config.time_width], tf.float32),
                "context": (context, tf.float32),
            },
            unet,
        ),
        "decoder": _graph(
            "decoder",
            lambda latent: {"image": decoder(latent)},
            {"latent": (latent, tf.float32)},
            decoder,
        ),
    }


def _graph(
    name: str, function: Callable[..., Any], inputs: dict[str, tuple], network: tf.Module
) -> Graph:
    specs = {key: tf.TensorSpec(shape, dtype, name=key) for key, (shape, dtype) in inputs.items()}
    return Graph(name, tf.function(function), specs, list(network.variables))
