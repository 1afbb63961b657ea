"""The networks of a text-to-image model, as a sampler sees them."""

import functools
from collections.abc import Callable
from typing import Protocol

import numpy as np

from tfsnap.runtime.bundle import Bundle
from tfsnap.runtime.errors import BundleError, RequestError
from tfsnap.runtime.interpreter import Network, load
from tfsnap.runtime.manifest import COMPONENTS, ENCODER, MANIFEST, TensorSpec


class Components(Protocol):
    """The networks on numpy arrays, batch 1. A `Pipeline` runs any object that has these.

    Attributes:
      image_shape: height, width and channels of the pictures.
    """

    image_shape: tuple[int, int, int]

    def encode_text(self, tokens: np.ndarray) -> np.ndarray:
        """Returns the context, float32 [1, T, C], of tokens, int32 [1, T]."""

    def predict(
        self, *, latent: np.ndarray, time_features: np.ndarray, context: np.ndarray
    ) -> np.ndarray:
        """Evaluates the UNet once.

        Args:
          latent: float32 [1, h, w, c].
          time_features: float32 [1, 1, F], from `tfsnap.runtime.time_features`.
          context: float32 [1, T, C].

        Returns:
          The prediction, epsilon or v, float32 [1, h, w, c].
        """

    def decode(self, latent: np.ndarray) -> np.ndarray:
        """Returns the picture, float32 [1, H, W, 3] in [-1, 1], of a latent already unscaled."""

    def encode_image(self, image: np.ndarray) -> np.ndarray:
        """Returns the mean latent, float32 [1, h, w, c], not yet scaled, of such a picture.

        Raises:
          RequestError: there is no encoder.
        """


class TFLiteComponents:
    """The networks of a bundle in a TFLite interpreter; implements `Components`.

    Args:
      text_encoder: from `load_component`.
      unet: from `load_component`.
      decoder: from `load_component`.
      encoder: loads the encoder when it is first needed; None if there is none.
    """

    def __init__(
        self,
        *,
        text_encoder: Network,
        unet: Network,
        decoder: Network,
        encoder: Callable[[], Network] | None = None,
    ):
        self._text_encoder = text_encoder
        self._unet = unet
        self._decoder = decoder
        self._make_encoder = encoder
        self.image_shape = decoder.outputs[0].shape[1:]

    @classmethod
    def load(
        cls, bundle: Bundle, *, threads: int = 2, interpreter: str | None = None
    ) -> "TFLiteComponents":
        """Loads all that generating from text needs; see `load_component`."""

        def load_one(name: str) -> Network:
            return load_component(bundle, name, threads=threads, interpreter=interpreter)

        encoder = functools.partial(load_one, ENCODER)
        has_encoder = ENCODER in bundle.manifest.components
        return cls(
            **{name: load_one(name) for name in COMPONENTS},
            encoder=encoder if has_encoder else None,
        )

    def encode_text(self, tokens: np.ndarray) -> np.ndarray:
        return self._text_encoder(tokens=tokens)["context"]

    def predict(
        self, *, latent: np.ndarray, time_features: np.ndarray, context: np.ndarray
    ) -> np.ndarray:
        outputs = self._unet(latent=latent, time_features=time_features, context=context)
        return outputs["prediction"]

    def decode(self, latent: np.ndarray) -> np.ndarray:
        return self._decoder(latent=latent)["image"]

    def encode_image(self, image: np.ndarray) -> np.ndarray:
        return self._encoder(image=image)["latent"]

    @functools.cached_property
    def _encoder(self) -> Network:
        if self._make_encoder is None:
            raise RequestError(
                "This bundle has no encoder, which an image to start from needs: export it again "
                "with --encoder"
            )
        return self._make_encoder()


def load_component(
    bundle: Bundle, name: str, *, threads: int = 2, interpreter: str | None = None
) -> Network:
    """Loads a network of a bundle and compares its tensors with the manifest.

    Args:
      bundle: the bundle.
      name: "text_encoder", "unet", "decoder" or "encoder".
      threads: number of threads that it may use.
      interpreter: see `tfsnap.runtime.interpreter.find_backend`.

    Raises:
      BundleError: the interpreter refuses the file, or its tensors are not as the manifest says.
    """
    about = bundle.component(name)
    where = f"{name} ({bundle.path / about.file})"
    network = load(bundle.model(name), name=where, threads=threads, backend=interpreter)
    _check_contract(where, "inputs", found=network.inputs, stated=about.inputs)
    _check_contract(where, "outputs", found=network.outputs, stated=about.outputs)
    return network


def _check_contract(
    where: str, side: str, *, found: tuple[TensorSpec, ...], stated: tuple[TensorSpec, ...]
) -> None:
    shown = [
        ", ".join(sorted(f"{t.name} {t.dtype} {list(t.shape)}" for t in tensors))
        for tensors in (found, stated)
    ]
    if shown[0] != shown[1]:
        raise BundleError(
            f"{where} has {side} {shown[0]} and {MANIFEST} says {shown[1]}: export the bundle again"
        )
