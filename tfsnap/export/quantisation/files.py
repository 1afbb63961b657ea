"""Files beside a bundle, looked at before anything is computed for them."""

import os
import pathlib
import tempfile


def require_usable(path: pathlib.Path, flag: str, *, appended: bool = False) -> None:
    """Checks that a file can be read if it is there, or else made; nothing is changed.

    Args:
      path: of the file; folders above it may be missing.
      flag: that names it, for the message.
      appended: whether it is written to even if it is there.

    Raises:
      ValueError: it cannot.
    """
    try:
        if path.is_dir():
            raise ValueError(f"{flag} is {path}, a folder: give the name of a file in it")
        if path.exists():
            os.close(os.open(path, os.O_RDWR if appended else os.O_RDONLY))
            return
        folder = next(folder for folder in path.absolute().parents if os.path.lexists(folder))
        with tempfile.TemporaryFile(dir=folder):  # As root, permissions alone do not tell.
            pass
    except OSError as error:
        raise ValueError(
            f"{flag} is {path}, which cannot be used ({error.strerror}): give another file"
        ) from error
