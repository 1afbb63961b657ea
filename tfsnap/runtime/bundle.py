"""A bundle: everything that turns prompts into pictures, checked when it is opened."""

import contextlib
import json
import os
import pathlib
from collections.abc import Sequence

from tfsnap.runtime.errors import BundleError, RequestError, one_line
from tfsnap.runtime.interpreter import SIGNATURE
from tfsnap.runtime.lending import lend
from tfsnap.runtime.manifest import MANIFEST, Component, Manifest
from tfsnap.runtime.sizes import height_and_width, is_sized
from tfsnap.runtime.storage import (
    ZIP_ERRORS,
    Storage,
    changed,
    open_storage,
    sha256,
    told_as_damage,
)
from tfsnap.tokenizer import VOCAB_SIZE, Tokenizer


class Bundle:
    """An opened bundle.

    Attributes:
      path: where it was opened.
      manifest: what it says of itself, for the size of picture that was chosen.
      signature: of the networks that depend on that size; None where they have but one.

    Example:
      >>> bundle = Bundle.open("emoji-demo")
      >>> bundle.component("unet").inputs[0].shape
      (1, 8, 8, 4)
    """

    def __init__(
        self,
        path: pathlib.Path,
        manifest: Manifest,
        storage: Storage,
        *,
        signature: str | None = None,
    ):
        self.path = path
        self.manifest = manifest
        self.signature = signature or (SIGNATURE if manifest.sizes else None)
        self._storage = storage

    @classmethod
    def open(cls, path: str | os.PathLike) -> "Bundle":
        """Opens a bundle and compares every file with its checksum.

        Args:
          path: a folder with `manifest.json`, or one file with such a folder's content: a zip whose
            members are stored and not compressed.

        Raises:
          BundleError: there is no bundle, it is damaged or was changed, it contradicts itself, or
            it needs another version of tfsnap.
        """
        path = pathlib.Path(path)
        try:
            storage = open_storage(path)
            with told_as_damage(path):
                with storage.open(MANIFEST) as file:
                    manifest = Manifest.from_json(json.load(file))
                _verify(path, manifest, storage)
        except BundleError:
            raise
        except OSError as error:
            raise BundleError(f"{path} cannot be read: {error}") from error
        except (ValueError, RecursionError) as error:  # Of JSON that is nested too deeply.
            told = str(error)  # Of a field, it begins with the file's name.
            told = told if told.startswith(MANIFEST) else f"{MANIFEST}: {told}"
            cut = isinstance(error, json.JSONDecodeError)
            remedy = ": copy or export the bundle again" if cut else ""
            raise BundleError(f"{path}/{told}{remedy}") from error
        return cls(path, manifest, storage)

    def component(self, name: str) -> Component:
        """Returns what the manifest says of "text_encoder", "unet" or "decoder"."""
        return self.manifest.components[name]

    def at(self, height: int, width: int) -> "Bundle":
        """The same bundle for another size of picture.

        Args:
          height: in pixels.
          width: in pixels.

        Raises:
          RequestError: the bundle does not draw that size; the message lists those it does.
        """
        sizes = self.manifest.sizes or ()
        found = [size for size in sizes if (size.height, size.width) == (height, width)]
        if found:
            signature = SIGNATURE if found == [sizes[0]] else found[0].name
            return Bundle(
                self.path,
                self.manifest.at(found[0]),
                self._storage,
                signature=signature,
            )
        default = "{}x{}".format(*self.manifest.image_shape)
        if f"{height}x{width}" == default:
            return self
        known = ", ".join(size.name for size in sizes) or default
        raise RequestError(
            f"The bundle draws pictures of {known} pixels (height x width), not {height}x{width}: "
            "choose one of these, or export it with --shape"
        )

    def sized(self, size: int | Sequence[int] | None) -> "Bundle":
        """As `at`, for a size as programs give it.

        Args:
          size: height and width in pixels, or one number for a square; None for the default.

        Raises:
          RequestError: it is something else, or the bundle does not draw that size.
        """
        default = self.manifest.image_shape[:2]
        return self.at(*(default if size is None else height_and_width(size)))

    def signature_of(self, name: str) -> str:
        """The signature of a component's files that is to be run."""
        sized = any(is_sized(tensor.name) for tensor in self.component(name).inputs)
        return self.signature if self.signature and sized else SIGNATURE

    def model(self, name: str) -> contextlib.AbstractContextManager[pathlib.Path]:
        """Lends the TFLite file of a component that has but one; see `tfsnap.runtime.lending`.

        Example:
          >>> with bundle.model("unet") as path:
          ...     interpreter = Interpreter(model_path=str(path))
        """
        (part,) = self.component(name).files
        return self.lend(name, part.file)

    def lend(self, name: str, file: str) -> contextlib.AbstractContextManager[pathlib.Path]:
        """Lends one of a component's files, with `signature_of` it as its only signature."""
        several = self.signature is not None
        return lend(self._storage, file, signature=self.signature_of(name) if several else None)

    def read(self, file: str) -> bytes:
        """Returns the content of a file of the bundle, such as `manifest.goldens.file`.

        Raises:
          BundleError: it was removed or damaged since the bundle was opened.
        """
        try:
            with self._storage.open(file) as opened:
                return opened.read()
        except (OSError, EOFError, *ZIP_ERRORS) as error:
            raise changed(self.path / file, error) from error

    def tokenizer(self) -> Tokenizer:
        """Builds the tokenizer of the text encoder.

        Raises:
          BundleError: the manifest describes one that cannot be, or the bundle was changed since it
            was opened.
        """
        about = self.manifest.tokenizer
        merges = self.read(about.file)
        try:
            return Tokenizer(
                merges,
                context_length=about.context_length,
                pad_token=about.pad_token,
                vocab_size=VOCAB_SIZE if about.vocab_size is None else about.vocab_size,
            )
        except ValueError as error:
            raise BundleError(
                f"{self.path}: tokenizer: {one_line(error)}: export the bundle again"
            ) from error


def _verify(path: pathlib.Path, manifest: Manifest, storage: Storage) -> None:
    files = manifest.checksums()
    missing = [file for file in files if file not in storage.names()]
    if missing:
        raise BundleError(
            f"{path} lacks {missing[0]} ({files[missing[0]][0]}): copy or export the bundle again"
        )
    for file, (name, expected) in files.items():
        found = sha256(storage, file)
        if found != expected:
            raise BundleError(
                f"{name} is damaged or was changed: the SHA-256 of {path / file} is "
                f"{found[:12]}... and {MANIFEST} says {expected[:12]}...: copy or export the "
                "bundle again"
            )
