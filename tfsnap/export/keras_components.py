"""Keras models behind the runtime's interface, so that both run one sampler on the same noise."""

import collections
from collections.abc import Callable

import numpy as np

from tfsnap.export.graphs import Graph, component_graphs
from tfsnap.heap import return_freed_memory
from tfsnap.models.latent_diffusion import LatentDiffusion
from tfsnap.models.unet import MAX_PERIOD
from tfsnap.runtime.contexts import predict_each
from tfsnap.runtime.pipeline import Pipeline
from tfsnap.runtime.settings import Guidance, Latent, Sampler, Settings, TimeFeatures
from tfsnap.tokenizer import Tokenizer

Call = tuple[dict[str, np.ndarray], dict[str, np.ndarray]]  # Named inputs, named outputs.
Evaluate = Callable[..., dict[str, np.ndarray]]


class NamedNetworks:
    """Implements `tfsnap.runtime.components.Components` with networks that have names.

    Args:
      graphs: of the networks, from `component_graphs`: for shapes.
    """

    def __init__(self, graphs: dict[str, Graph]):
        self.image_shape = tuple(graphs["encoder"].inputs["image"].shape[1:])
        self._contexts = graphs["unet"].inputs["context"].shape[0]

    def encode_text(self, tokens: np.ndarray) -> np.ndarray:
        return self._run("text_encoder", tokens=tokens)["context"]

    def predict(self, **inputs: np.ndarray) -> np.ndarray:
        return predict_each(
            lambda **arrays: self._run("unet", **arrays)["prediction"],
            contexts=self._contexts,
            **inputs,
        )

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
        super().__init__(graphs)
        self.graphs = graphs

    def _run(self, name: str, **inputs: np.ndarray) -> dict[str, np.ndarray]:
        return self.graphs[name].run(**inputs)


class InTurn(NamedNetworks):
    """Holds one network at a time, for models of which two do not fit into memory.

    Args:
      graphs: see `NamedNetworks`.
      load: returns a network by its name, from named arrays to named arrays.

    Attributes:
      calls: inputs and outputs of every evaluation so far, by network.
    """

    def __init__(self, graphs: dict[str, Graph], load: Callable[[str], Evaluate]):
        super().__init__(graphs)
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
        return_freed_memory()


def settings_of(model: LatentDiffusion, *, guidance: float, sampler: Sampler) -> Settings:
    """What a sampler must know about `model`, with defaults for guidance and sampling."""
    return Settings(
        schedule=model.schedule.config,
        prediction=model.prediction,
        time_features=TimeFeatures(width=model.unet.config.time_width, max_period=MAX_PERIOD),
        latent=Latent(shape=model.latent_shape, scale=model.autoencoder.config.scale),
        guidance=_guidance(model, guidance),
        sampler=sampler,
    )


def _guidance(model: LatentDiffusion, default: float) -> Guidance:
    baked = model.baked_guidance
    if baked is None:
        return Guidance(False, default, model.unet.config.guidance_width)
    return Guidance(baked_in=True, default=baked)


def keras_pipeline(model: LatentDiffusion, tokenizer: Tokenizer, settings: Settings) -> Pipeline:
    """The runtime's pipeline on Keras models."""
    components = KerasComponents(component_graphs(model))
    return Pipeline(components, tokenizer=tokenizer, settings=settings)
