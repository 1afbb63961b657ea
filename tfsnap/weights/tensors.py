"""Safetensors files, in numpy only: written whole or not at all."""

import contextlib
import json
import os
import pathlib
import re
import tempfile
from collections.abc import Iterator, Mapping

import numpy as np
import safetensors
import safetensors.numpy

from tfsnap.errors import TfsnapError

_ERROR_NUMBER = re.compile(r"os error (\d+)")


class WeightMismatchError(TfsnapError, ValueError):
    """A file's tensors are not the model's: the message lists every kind of difference."""


class WeightFileError(TfsnapError, ValueError):
    """A file is missing, truncated, or not safetensors."""


def listed(kinds: Mapping[str, list[str]], most: int) -> list[str]:
    """One line for each kind of difference between a file and a network that there is.

    Args:
      kinds: names by what is wrong with them.
      most: names in a line; the others are counted.

    Example:
      >>> listed({"missing": ["a", "b", "c"], "unexpected": []}, most=2)
      ['3 missing: a, b, and 1 more']
    """
    lines = []
    for kind, names in kinds.items():
        if names:
            more = f", and {len(names) - most} more" if len(names) > most else ""
            lines.append(f"{len(names)} {kind}: {', '.join(names[:most])}{more}")
    return lines


def save_tensors(
    path: str | os.PathLike,
    tensors: Mapping[str, np.ndarray],
    metadata: Mapping[str, object] | None = None,
) -> None:
    """Writes tensors to a safetensors file, atomically.

    Args:
      path: file to write; an existing one is replaced only once the new one is complete.
      tensors: arrays by name.
      metadata: JSON values by name, stored in the header.

    Raises:
      OSError: the disk is full or cannot be written.
    """
    path = pathlib.Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    header = {key: json.dumps(value) for key, value in (metadata or {}).items()}
    contiguous = {key: np.asarray(value, order="C") for key, value in tensors.items()}
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    os.close(handle)
    try:
        safetensors.numpy.save_file(contiguous, temporary, header)
        os.chmod(temporary, 0o644)
        os.replace(temporary, path)
    except safetensors.SafetensorError as error:
        os.unlink(temporary)
        raise _as_os_error(error, path) from error
    except BaseException:
        os.unlink(temporary)
        raise


def _as_os_error(error: safetensors.SafetensorError, path: pathlib.Path) -> Exception:
    """What the library hides: that a disk is full it tells in its message only."""
    number = _ERROR_NUMBER.search(str(error))
    if number is None:
        return error
    code = int(number[1])
    return OSError(code, os.strerror(code), str(path))


def parsed(path: str | os.PathLike, header: Mapping[str, str]) -> dict[str, object]:
    """Returns the JSON values of a header.

    Args:
      path: of the file, for the message.
      header: its metadata.

    Raises:
      WeightFileError: one is not JSON.
    """
    try:
        return {key: json.loads(value) for key, value in header.items()}
    except (RecursionError, TypeError, ValueError) as error:
        raise WeightFileError(f"{path}: its description is damaged ({error})") from error


def load_tensors(path: str | os.PathLike) -> tuple[dict[str, np.ndarray], dict[str, object]]:
    """Reads a safetensors file written by `save_tensors`.

    Returns:
      Arrays by name, and the metadata.

    Raises:
      WeightFileError: the file is missing, truncated or not safetensors.
    """
    with _opened(pathlib.Path(path)) as file:
        metadata = parsed(path, file.metadata() or {})
        return {key: file.get_tensor(key) for key in file.keys()}, metadata  # noqa: SIM118


def load_metadata(path: str | os.PathLike) -> dict[str, object]:
    """Reads the metadata of a safetensors file written by `save_tensors`, and no array.

    Raises:
      WeightFileError: the file is missing, truncated or not safetensors.
    """
    with _opened(pathlib.Path(path)) as file:
        return parsed(path, file.metadata() or {})


@contextlib.contextmanager
def _opened(path: pathlib.Path) -> Iterator[safetensors.safe_open]:
    if not path.is_file():
        folder = ", it is a folder: name the file in it" if path.is_dir() else ""
        raise WeightFileError(f"{path}: no such weight file{folder}")
    try:
        with safetensors.safe_open(path, framework="np") as file:
            yield file
    except safetensors.SafetensorError as error:
        size = path.stat().st_size
        raise WeightFileError(
            f"{path}: not a complete safetensors file ({size} bytes: {error}); fetch it or make it "
            "again"
        ) from error
