"""A bundle: everything that turns prompts into pictures, checked when it is opened."""

import json
import os
import pathlib
import tempfile
import zipfile

from tfsnap.runtime.errors import BundleError
from tfsnap.runtime.manifest import MANIFEST, Component, Manifest
from tfsnap.runtime.storage import Storage, open_storage, sha256
from tfsnap.tokenizer import Tokenizer


class Bundle:
    """An opened bundle.

    Attributes:
      path: where it was opened.
      manifest: what it says of itself.

    Example:
      >>> bundle = Bundle.open("emoji-demo")
      >>> bundle.component("unet").inputs[0].shape
      (1, 8, 8, 4)
    """

    def __init__(self, path: pathlib.Path, manifest: Manifest, storage: Storage):
        self.path = path
        self.manifest = manifest
        self._storage = storage

    @classmethod
    def open(cls, path: str | os.PathLike) -> "Bundle":
        """Opens a bundle and compares every file with its checksum.

        Args:
          path: a folder with `manifest.json`, or a zip file of such a folder's content, its members
            stored and not compressed.

        Raises:
          BundleError: there is no bundle, it is damaged or was changed, it contradicts itself, or
            it needs a later version of tfsnap.
        """
        path = pathlib.Path(path)
        try:
            storage = open_storage(path)
            with storage.open(MANIFEST) as file:
                manifest = Manifest.from_json(json.load(file))
            _verify(path, manifest, storage)
        except BundleError:
            raise
        except (OSError, zipfile.BadZipFile) as error:
            raise BundleError(f"{path} cannot be read: {error}") from error
        except ValueError as error:
            raise BundleError(f"{path / MANIFEST}: {error}") from error
        return cls(path, manifest, storage)

    def component(self, name: str) -> Component:
        """Returns what the manifest says of "text_encoder", "unet" or "decoder"."""
        return self.manifest.components[name]

    def model(self, name: str) -> pathlib.Path | bytes:
        """Returns a component's TFLite file: its path, or from a zip its content."""
        return self._storage.model(self.component(name).file)

    def read(self, file: str) -> bytes:
        """Returns the content of a file of the bundle, such as `manifest.goldens.file`."""
        with self._storage.open(file) as opened:
            return opened.read()

    def tokenizer(self) -> Tokenizer:
        """Builds the tokenizer of the text encoder."""
        about = self.manifest.tokenizer
        with tempfile.TemporaryDirectory(prefix="tfsnap-") as folder:
            merges = pathlib.Path(folder, "merges.txt.gz")  # A zip has no path to give.
            merges.write_bytes(self.read(about.file))
            return Tokenizer(merges, context_length=about.context_length, pad_token=about.pad_token)


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
