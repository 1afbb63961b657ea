"""The networks of Stable Diffusion's size that a bundle can hold, by name: to be measured."""

import dataclasses
from collections.abc import Callable, Mapping

import tf_keras as keras

from tfsnap.config import ClipTextConfig
from tfsnap.export.graphs import Graph, decoder_graph, encoder_graph, text_graph, unet_graph
from tfsnap.models.autoencoder import build_autoencoder
from tfsnap.models.clip import build_text_encoder
from tfsnap.models.presets import AUTOENCODERS, UNETS
from tfsnap.models.unet import build_unet
from tfsnap.models.weightless import build_weightless
from tfsnap.weights.lazy import LazyTensor
from tfsnap.weights.random_values import random_values

_TOKENS = 77
_CELL = 8  # Pixels to a side of a latent's.


@dataclasses.dataclass(frozen=True)
class Network:
    """A network of full width and depth.

    Attributes:
      kind: what its weight file says that it is.
      build: makes it.
      graph: its graph, from the model, its values if they are not in it, and height and width of
        latents.
    """

    kind: str
    build: Callable[[], keras.Model]
    graph: Callable[[keras.Model, Mapping[str, LazyTensor] | None, tuple[int, int]], Graph]

    def random_graph(self, side: int) -> Graph:
        """Its graph with random weights, none of them in memory.

        Args:
          side: of the latents, which are square; 64 is a picture of 512 pixels.
        """
        model = build_weightless(self.build)
        return self.graph(model, random_values(model.variables), (side, side))


def _unet(name: str) -> Network:
    return Network(
        "unet",
        lambda: build_unet(UNETS[name]),
        lambda model, values, latent: unet_graph(
            model, latent=latent, tokens=_TOKENS, values=values
        ),
    )


def _encoder(name: str) -> Network:
    return Network(
        "autoencoder",
        lambda: build_autoencoder(AUTOENCODERS[name]),
        lambda model, values, latent: encoder_graph(
            model, size=(_CELL * latent[0], _CELL * latent[1]), values=values
        ),
    )


def _decoder(name: str) -> Network:
    return Network(
        "autoencoder",
        lambda: build_autoencoder(AUTOENCODERS[name]),
        lambda model, values, latent: decoder_graph(model, latent=latent, values=values),
    )


NETWORKS = {
    **{f"unet:{name}": _unet(name) for name in ("sd15", "snapfusion", "snapfusion_848m")},
    "text_encoder": Network(
        "text_encoder",
        lambda: build_text_encoder(ClipTextConfig()),
        lambda model, values, latent: text_graph(model, values=values),
    ),
    "encoder:sd15": _encoder("sd15"),
    "decoder:sd15": _decoder("sd15"),
    "decoder:snapfusion": _decoder("snapfusion"),
}
