"""The TFLite files of a bundle, or one by itself, as they are stored."""

import contextlib
import dataclasses
import os
import pathlib
from collections.abc import Iterator

from tfsnap.runtime.bundle import Bundle
from tfsnap.runtime.lending import lend
from tfsnap.runtime.storage import is_archive, open_storage


@dataclasses.dataclass(frozen=True)
class Model:
    """One TFLite file.

    Attributes:
      name: what to call it: "unet", or "unet, chunk 0" where a network is in several files.
      component: the network that it is, or is a part of, such as "unet".
      path: the file, with all of its signatures.
    """

    name: str
    component: str
    path: pathlib.Path


@contextlib.contextmanager
def models_of(path: str | os.PathLike) -> Iterator[list[Model]]:
    """Lends the models of a bundle, or the one model.

    Args:
      path: a bundle (a folder or a zip), or a TFLite file.

    Yields:
      Models whose files are good until the block is left. That of a lone file is named as the file.

    Raises:
      FileNotFoundError: there is nothing at `path`.
      BundleError: the bundle is damaged.
    """
    path = pathlib.Path(path)
    if not path.exists():
        raise FileNotFoundError(f"there is no model at {path}")
    if path.is_file() and not is_archive(path):
        yield [Model(path.stem, path.stem, path)]
        return
    components, found = Bundle.open(path).manifest.components, []
    # Not the bundle's own lending, which hides all signatures but that of one size of picture.
    storage = open_storage(path)
    with contextlib.ExitStack() as stack:
        for component, about in components.items():
            for number, part in enumerate(about.files):
                name = f"{component}, chunk {number}" if about.chunks else component
                file = stack.enter_context(lend(storage, part.file, signature=None))
                found.append(Model(name, component, file))
        yield found
