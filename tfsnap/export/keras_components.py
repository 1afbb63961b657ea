"""Keras models behind the runtime's interface, so that both run one sampler on the same noise."""

import collections
from collections.abc import Callable

import numpy as np

from tfsnap.export.graphs import Graph, component_graphs
from tfsnap.models.latent_diffusion import LatentDiffusion
from tfsnap.models.unet import MAX_PERIOD
from tfsnap.runtime.pipeline import Pipeline
from tfsnap.runtime.settings import Guidance, Latent, Sampler, Settings, TimeFeatures
from tfsnap.tokenizer import Tokenizer

Call = tuple[dict[str, np.ndarray], dict[str, np.ndarray]]  # Named inputs, named outputs.
Evaluate = Callable[..., dict[str, np.ndarray]]


class NamedNetworks:
    """Implements `tfsnap.runtime.components.Components` with networks that have names.

    Args:
      image_shape: height, width and channels of the pictures.
    """

    def __init__(self, image_shape: tuple[int, int, int]):
        self.image_shape = image_shape

    def encode_text(self, tokens: np.ndarray) -> np.ndarray:
        return self._run("text_encoder", tokens=tokens)["context"]

    def predict(
        self, *, latent: np.ndarray, time_features: np.ndarray, context: np.ndarray
    ) -> np.ndarray:
        outputs = self._run("unet", latent=latent, time_features=time_features, context=context)
        return outputs["prediction"]

    def decode(self, latent: np.ndarray) -> np.ndarray:
        return self._run("decoder", latent=latent)["image"]

    def encode_image(self, image: np.ndarray) -> np.ndarray:
        return self._run("encoder", image=image)["latent"]

    def _run(self, name: str, **inputs: np.ndarray) -> dict[str, np.ndarray]:
        raise NotImplementedError


class KerasComponents(NamedNetworks):
    """Keras models, in float32.

    Args:
      graphs: from `component_graphs`.
    """

    def __init__(self, graphs: dict[str, Graph]):
        super().__init__(image_shape_of(graphs))
        self.graphs = graphs

    def _run(self, name: str, **inputs: np.ndarray) -> dict[str, np.ndarray]:
        return self.graphs[name].run(**inputs)


class InTurn(NamedNetworks):
    """Holds one network at a time, for models of which two do not fit into memory.

    Args:
      image_shape: height, width and channels of the pictures.
      load: returns a network by its name, from named arrays to named arrays.

    Attributes:
      calls: inputs and outputs of every evaluation so far, by network.
    """

    def __init__(self, image_shape: tuple[int, int, int], load: Callable[[str], Evaluate]):
        super().__init__(image_shape)
        self.calls: dict[str, list[Call]] = collections.defaultdict(list)
        self._load = load
        self._name, self._network = None, None

    def _run(self, name: str, **inputs: np.ndarray) -> dict[str, np.ndarray]:
        if name != self._name:
            self.release()
            self._name, self._network = name, self._load(name)
        outputs = self._network(**inputs)
        self.calls[name].append((inputs, outputs))
        return outputs

    def release(self) -> None:
        """Forgets the network that is in memory."""
        self._name = self._network = None


def image_shape_of(graphs: dict[str, Graph]) -> tuple[int, int, int]:
    """Height, width and channels of the pictures that go into the encoder."""
    return tuple(graphs["encoder"].inputs["image"].shape[1:])


def settings_of(model: LatentDiffusion, *, guidance: float, sampler: Sampler) -> Settings:
    """What a sampler must know about `model`, with defaults for guidance and sampling."""
    return Settings(
        schedule=model.schedule.config,
        prediction=model.prediction,
        time_features=TimeFeatures(width=model.unet.config.time_width, max_period=MAX_PERIOD),
        latent=Latent(shape=model.latent_shape, scale=model.autoencoder.config.scale),
        guidance=_guidance(model.baked_guidance, guidance),
        sampler=sampler,
    )


def _guidance(baked: float | None, default: float) -> Guidance:
    if baked is None:
        return Guidance(baked_in=False, default=default)
    return Guidance(baked_in=True, default=baked)


def keras_pipeline(model: LatentDiffusion, tokenizer: Tokenizer, settings: Settings) -> Pipeline:
    """The runtime's pipeline on Keras models."""
    components = KerasComponents(component_graphs(model))
    return Pipeline(components, tokenizer=tokenizer, settings=settings)
