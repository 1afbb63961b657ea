"""Files of pictures: failures are told early, and never leave half a file."""

import io
import json
import os
import pathlib
import stat
import tempfile

from PIL import Image

from tfsnap.files import stays_in_place, write_whole
from tfsnap.runtime.errors import RequestError, one_line


def read_picture(path: str | os.PathLike) -> Image.Image:
    """Reads a picture.

    Raises:
      RequestError: the file is missing, damaged or no picture.
    """
    try:
        with Image.open(path) as picture:
            picture.load()
            return picture
    except Exception as error:  # Pillow's readers fail in any way on what is damaged.
        reason = getattr(error, "strerror", None) or one_line(error)
        raise RequestError(f"Cannot read the picture {path}: {reason}") from error


def require_writable(path: pathlib.Path) -> None:
    """Checks, before the work is done, that a file can be written.

    Raises:
      RequestError: its folder is missing, read-only or takes no files, `path` is a folder itself,
        or its name is none that a file can have.
    """
    try:
        mode = path.stat().st_mode
    except (FileNotFoundError, NotADirectoryError):
        mode = None
    except OSError as error:  # A name that is too long, a link to itself.
        raise RequestError(f"Cannot write {path}: {error.strerror}") from error
    folder = pathlib.Path(os.path.realpath(path)).parent
    if mode is not None and stat.S_ISDIR(mode):
        raise RequestError(f"Cannot write {path}: it is a folder, name a file in it")
    if mode is not None and stays_in_place(path):  # As in `write`: its folder stays as it is.
        if not os.access(path, os.W_OK):
            raise RequestError(f"Cannot write {path}: it is read-only")
        return
    if not folder.is_dir():
        raise RequestError(f"Cannot write {path}: there is no folder {folder}, create it first")
    if not os.access(folder, os.W_OK):
        raise RequestError(f"Cannot write {path}: the folder {folder} is read-only")
    try:
        with tempfile.TemporaryFile(dir=folder):  # As root, permissions alone do not tell.
            pass
    except OSError as error:
        raise RequestError(f"Cannot write {path}: {error.strerror}") from error


def require_report(
    path: pathlib.Path, *, of: str | os.PathLike | None = None, flag: str = "--json"
) -> None:
    """Checks, before the work is done, that JSON can be written and nothing else is lost by it.

    Args:
      path: the file. What is there has to be an earlier report, or empty.
      of: the folder or file that the report is about.
      flag: that names the file, for the message.

    Raises:
      RequestError: it cannot be written, or is, or is in, what it is about, or is no JSON.
    """
    if of is not None and pathlib.Path(os.path.realpath(path)).is_relative_to(os.path.realpath(of)):
        raise RequestError(f"{flag}={path} is the model, or in it: give another file")
    require_writable(path)
    content = path.read_bytes() if path.is_file() else b""
    try:
        if content:
            json.loads(content)
    except (ValueError, RecursionError) as error:
        raise RequestError(f"{flag}={path} exists and is no JSON: give another file") from error


def write(path: pathlib.Path, content: bytes) -> None:
    """Writes a file, complete or not at all; through a link, what it points at.

    Raises:
      RequestError: the file cannot be written.
    """
    try:
        write_whole(path, content)
    except OSError as error:
        raise RequestError(f"Cannot write {path}: {error.strerror}") from error


def picture_format(path: pathlib.Path) -> str:
    """Returns Pillow's name of the format that a file name ends in.

    Raises:
      RequestError: Pillow cannot write such files, or not in RGB.
    """
    name = Image.registered_extensions().get(path.suffix.lower())
    try:
        # Some formats are listed that only a plugin writes, or that know black and white alone.
        Image.new("RGB", (1, 1)).save(io.BytesIO(), format=name or "")
    except Exception as error:
        raise RequestError(
            f"Cannot write {path}: its name must end in .png, .jpg or .webp"
        ) from error
    return name


def write_picture(path: pathlib.Path, picture: Image.Image) -> None:
    """Writes a picture in the format that `path` ends in.

    Raises:
      RequestError: the file cannot be written, or the picture is larger than its format allows.
    """
    encoded, name = io.BytesIO(), picture_format(path)
    try:
        picture.save(encoded, format=name)
    except Exception as error:  # Pillow's writers fail in any way on what is too large.
        width, height = picture.size
        raise RequestError(
            f"Cannot write {path}: {name} does not take {width} x {height} pixels "
            f"({one_line(error)}): name a .png, or ask for fewer pictures"
        ) from error
    write(path, encoded.getvalue())
