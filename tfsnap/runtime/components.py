"""The networks of a text-to-image model, as a sampler sees them."""

import functools
import pathlib
import threading
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from types import MappingProxyType
from typing import Any, Protocol

import numpy as np

from tfsnap.runtime.bundle import Bundle
from tfsnap.runtime.chunked import ChunkedNetwork
from tfsnap.runtime.contexts import predict_each
from tfsnap.runtime.errors import BundleError, RequestError
from tfsnap.runtime.interpreter import Network, find_backend, load
from tfsnap.runtime.manifest import COMPONENTS, ENCODER, MANIFEST, TensorSpec
from tfsnap.runtime.shelf import Loaded, Shelf, ShelvedNetwork
from tfsnap.runtime.weight_cache import CachedNetwork

AnyNetwork = Loaded | ShelvedNetwork


class Components(Protocol):
    """The networks on numpy arrays, for one picture. A `Pipeline` runs any object that has these.

    Attributes:
      image_shape: height, width and channels of the pictures.
    """

    image_shape: tuple[int, int, int]

    def encode_text(self, tokens: np.ndarray) -> np.ndarray:
        """Returns the context, float32 [1, T, C], of tokens, int32 [1, T]."""

    def predict(
        self,
        *,
        latent: np.ndarray,
        time_features: np.ndarray,
        context: np.ndarray,
        guidance_features: np.ndarray = ...,
    ) -> np.ndarray:
        """Evaluates the UNet for every context.

        Args:
          latent: float32 [1, h, w, c].
          time_features: float32 [1, 1, F], from `tfsnap.runtime.time_features`.
          context: float32 [N, T, C]; 2 where there is guidance, else 1.
          guidance_features: float32 [1, 1, G], from `tfsnap.runtime.guidance_features`; given where
            the UNet reads the scale, and only there.

        Returns:
          The predictions, epsilon or v, float32 [N, h, w, c].
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

    Threads may share it: one network runs at a time, as an interpreter serves one caller and
    networks may share a shelf.

    Args:
      text_encoder: from `load_component`.
      unet: from `load_component`.
      decoder: from `load_component`.
      encoder: loads the encoder when it is first needed; None if there is none.
    """

    def __init__(
        self,
        *,
        text_encoder: AnyNetwork,
        unet: AnyNetwork,
        decoder: AnyNetwork,
        encoder: Callable[[], AnyNetwork] | None = None,
    ):
        self._text_encoder = text_encoder
        self._unet = unet
        self._decoder = decoder
        self._make_encoder = encoder
        self._turn = threading.Lock()
        (self._contexts,) = {t.shape[0] for t in unet.inputs if t.name == "context"}
        self.image_shape = decoder.outputs[0].shape[1:]

    @classmethod
    def load(
        cls, bundle: Bundle, *, low_memory: bool = False, **options: Any
    ) -> "TFLiteComponents":
        """Loads all that generating from text needs.

        Args:
          bundle: the bundle.
          low_memory: whether to hold one network at a time.
          **options: see `load_component`.
        """
        shelf = Shelf() if low_memory else None

        def load_one(name: str) -> AnyNetwork:
            return load_component(bundle, name, shelf=shelf, **options)

        encoder = functools.partial(load_one, ENCODER)
        has_encoder = ENCODER in bundle.manifest.components
        return cls(
            **{name: load_one(name) for name in COMPONENTS},
            encoder=encoder if has_encoder else None,
        )

    def encode_text(self, tokens: np.ndarray) -> np.ndarray:
        with self._turn:
            return self._text_encoder(tokens=tokens)["context"]

    def predict(self, **inputs: np.ndarray) -> np.ndarray:
        with self._turn:
            return predict_each(
                lambda **arrays: self._unet(**arrays)["prediction"],
                contexts=self._contexts,
                **inputs,
            )

    def decode(self, latent: np.ndarray) -> np.ndarray:
        with self._turn:
            return self._decoder(latent=latent)["image"]

    def encode_image(self, image: np.ndarray) -> np.ndarray:
        with self._turn:
            return self._encoder(image=image)["latent"]

    @functools.cached_property
    def _encoder(self) -> AnyNetwork:
        if self._make_encoder is None:
            raise RequestError(
                "This bundle has no encoder, which an image to start from needs: export it again "
                "with --encoder"
            )
        return self._make_encoder()


def load_component(
    bundle: Bundle,
    name: str,
    *,
    threads: int = 2,
    interpreter: str | None = None,
    shelf: Shelf | None = None,
    weight_cache: pathlib.Path | None = None,
) -> AnyNetwork:
    """Loads a network of a bundle and compares its tensors with the manifest.

    Args:
      bundle: the bundle.
      name: "text_encoder", "unet", "decoder" or "encoder".
      threads: number of threads that it may use.
      interpreter: see `tfsnap.runtime.interpreter.find_backend`.
      shelf: where it is kept if it is not to be in memory beside others; if it is stored in several
        chunks, they are not beside each other either.
      weight_cache: folder of arranged weights, see `tfsnap.runtime.weight_cache`; None keeps them
        in memory.

    Raises:
      BundleError: the interpreter refuses a file, or its tensors are not as the manifest says.
      RequestError: `threads` is out of range, or `weight_cache` cannot be a folder.
    """
    about = bundle.component(name)
    where = f"{name} ({bundle.path / about.files[0].file})"
    load_network = functools.partial(
        load_files,
        functools.partial(bundle.lend, name),
        [part.file for part in about.files],
        name=where,
        outputs=[tensor.name for tensor in about.outputs],
        low_memory=shelf is not None,
        caches={} if weight_cache is None else _caches(bundle, name, weight_cache, interpreter),
        threads=threads,
        backend=interpreter,
        signature=bundle.signature_of(name),
    )
    network = load_network() if shelf is None else ShelvedNetwork(load_network, shelf)
    _check_contract(where, "inputs", found=network.inputs, stated=about.inputs)
    _check_contract(where, "outputs", found=network.outputs, stated=about.outputs)
    return network


def load_files(
    lend: Callable[[str], AbstractContextManager[pathlib.Path]],
    files: Sequence[str],
    *,
    name: str,
    outputs: Sequence[str],
    low_memory: bool = False,
    caches: Mapping[str, pathlib.Path] = MappingProxyType({}),
    **options: Any,
) -> Loaded:
    """Loads a network from one file or from its chunks.

    Args:
      lend: lends one of `files`; see `tfsnap.runtime.lending.lend`.
      files: of the network, in the order in which they run.
      name: how to call it in messages.
      outputs: names of what the network returns.
      low_memory: whether to hold one chunk at a time.
      caches: where the arranged weights of files are; those left out keep them in memory.
      **options: see `tfsnap.runtime.interpreter.load`.

    Raises:
      BundleError: the interpreter refuses a file, or two chunks do not fit together.
    """

    def load_file(file: str) -> Network | CachedNetwork:
        called = name if len(files) == 1 else f"{name}, {file}"
        with lend(file) as path:
            if file in caches:
                return CachedNetwork(path, caches[file], name=called, **options)
            return load(path, name=called, **options)

    loaders = [functools.partial(load_file, file) for file in files]
    if len(files) == 1:
        return loaders[0]()
    try:
        return ChunkedNetwork(loaders, outputs=outputs, one_at_a_time=low_memory)
    except ValueError as error:
        raise BundleError(f"{name}: {error}: export the bundle again") from error


def _caches(
    bundle: Bundle, name: str, folder: pathlib.Path, interpreter: str | None
) -> dict[str, pathlib.Path]:
    """Where the arranged weights of a component's files are kept, by file."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise RequestError(
            f"The weight cache {folder} cannot be made: {error.strerror}: name a folder"
        ) from error
    # All that they depend on: XNNPACK takes any file for those of any network.
    rest = f"{bundle.signature_of(name)}-{find_backend(interpreter).version}.xnnpack"
    return {
        part.file: folder / f"{part.sha256[:32]}-{rest}" for part in bundle.component(name).files
    }


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
