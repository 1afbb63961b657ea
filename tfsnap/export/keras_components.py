"""Keras models behind the runtime's interface, so that both run one sampler on the same noise."""

import numpy as np

from tfsnap.export.graphs import Graph, component_graphs
from tfsnap.models.latent_diffusion import LatentDiffusion
from tfsnap.models.unet import MAX_PERIOD
from tfsnap.runtime.pipeline import Pipeline
from tfsnap.runtime.settings import Guidance, Latent, Sampler, Settings, TimeFeatures
from tfsnap.tokenizer import Tokenizer

Call = tuple[dict[str, np.ndarray], dict[str, np.ndarray]]  # Named inputs, named outputs.


class KerasComponents:
    """Implements `tfsnap.runtime.components.Components` in float32 and records every call.

    Args:
      graphs: from `component_graphs`.

    Attributes:
      calls: inputs and outputs of every evaluation so far, by component.
    """

    def __init__(self, graphs: dict[str, Graph]):
        self.graphs = graphs
        self.calls: dict[str, list[Call]] = {name: [] for name in graphs}

    def encode_text(self, tokens: np.ndarray) -> np.ndarray:
        return self._run("text_encoder", tokens=tokens)["context"]

    def predict(
        self, *, latent: np.ndarray, time_features: np.ndarray, context: np.ndarray
    ) -> np.ndarray:
        outputs = self._run("unet", latent=latent, time_features=time_features, context=context)
        return outputs["prediction"]

    def decode(self, latent: np.ndarray) -> np.ndarray:
        return self._run("decoder", latent=latent)["image"]

    def _run(self, name: str, **inputs: np.ndarray) -> dict[str, np.ndarray]:
        outputs = self.graphs[name].run(**inputs)
        self.calls[name].append((inputs, outputs))
        return outputs


def settings_of(model: LatentDiffusion, *, steps: int, guidance: float) -> Settings:
    """What a sampler must know about `model`, with defaults for steps and guidance."""
    return Settings(
        schedule=model.schedule.config,
        prediction=model.prediction,
        time_features=TimeFeatures(width=model.unet.config.time_width, max_period=MAX_PERIOD),
        latent=Latent(shape=model.latent_shape, scale=model.autoencoder.config.scale),
        guidance=Guidance(baked_in=False, default=guidance),
        sampler=Sampler(steps=steps),
    )


def keras_pipeline(model: LatentDiffusion, tokenizer: Tokenizer, settings: Settings) -> Pipeline:
    """The runtime's pipeline on Keras models; its `components` record their calls."""
    components = KerasComponents(component_graphs(model))
    return Pipeline(components, tokenizer=tokenizer, settings=settings)
