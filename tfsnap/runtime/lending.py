"""Lends the networks of a bundle to an interpreter as files, which it maps into memory."""

import contextlib
import pathlib
import shutil
import tempfile
from collections.abc import Iterator

from tfsnap.runtime.errors import BundleError
from tfsnap.runtime.signatures import select_signature
from tfsnap.runtime.storage import ZIP_ERRORS, Storage, changed


@contextlib.contextmanager
def lend(storage: Storage, file: str, *, signature: str | None) -> Iterator[pathlib.Path]:
    """A TFLite file in the form that an interpreter loads with the least memory.

    The packages' interpreters map a file from its beginning, or take `bytes`, which cannot be
    mapped. So the member of an archive is copied to a temporary file, which is gone as soon as it
    is mapped: its pages count as the page cache's, not as the process's own.

    Args:
      storage: where the bundle's files are.
      file: one of them.
      signature: the only one that the interpreter is to see; None where there is but one.

    Yields:
      A path that is good until the block is left.

    Raises:
      BundleError: there is no room for a temporary file, the bundle was changed since it was
        opened, or the file has no such signature.
    """
    path = storage.path(file)
    if path is not None and signature is None:
        yield path
        return
    with contextlib.ExitStack() as stack:
        folder = "a temporary folder"  # Until it has a name.
        try:
            making = tempfile.TemporaryDirectory(prefix="tfsnap-", ignore_cleanup_errors=True)
            folder = stack.enter_context(making)
            copy = pathlib.Path(folder, "model.tflite")
            with storage.open(file) as source, copy.open("wb") as target:
                shutil.copyfileobj(source, target, 1 << 20)
            if signature is not None:
                select_signature(copy, signature)
        except OSError as error:
            raise BundleError(
                f"{file} cannot be copied to {folder}: {error.strerror}: set TMPDIR to a folder "
                "with room for it"
            ) from error
        except (EOFError, *ZIP_ERRORS) as error:
            raise changed(file, error) from error
        except BundleError:
            raise
        except ValueError as error:
            raise BundleError(f"{file}: {error}: export the bundle again") from error
        yield copy
