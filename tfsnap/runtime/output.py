"""Files of pictures: failures are told early, and never leave half a file."""

import io
import os
import pathlib

from PIL import Image

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
      RequestError: its folder is missing or read-only, or `path` is a folder itself.
    """
    folder = path.parent
    if not folder.is_dir():
        raise RequestError(f"Cannot write {path}: there is no folder {folder}, create it first")
    if path.is_dir():
        raise RequestError(f"Cannot write {path}: it is a folder, name a file in it")
    if not os.access(folder, os.W_OK):
        raise RequestError(f"Cannot write {path}: the folder {folder} is read-only")


def write(path: pathlib.Path, content: bytes) -> None:
    """Writes a file under a temporary name and renames it; through a link, what it points at.

    Raises:
      RequestError: the file cannot be written.
    """
    try:
        target = pathlib.Path(os.path.realpath(path))
        if target.exists() and not target.is_file():  # /dev/null, a pipe: not to be replaced.
            target.write_bytes(content)
            return
        partial = target.with_name(f".{target.name}.partial")
        try:
            partial.write_bytes(content)
            os.replace(partial, target)
        finally:
            partial.unlink(missing_ok=True)
    except OSError as error:
        raise RequestError(f"Cannot write {path}: {error.strerror}") from error


def picture_format(path: pathlib.Path) -> str:
    """Returns Pillow's name of the format that a file name ends in.

    Raises:
      RequestError: Pillow cannot write such files.
    """
    name = Image.registered_extensions().get(path.suffix.lower())
    if name not in Image.SAVE:
        raise RequestError(f"Cannot write {path}: its name must end in .png, .jpg or .webp")
    return name


def write_picture(path: pathlib.Path, picture: Image.Image) -> None:
    """Writes a picture in the format that `path` ends in.

    Raises:
      RequestError: the file cannot be written.
    """
    encoded = io.BytesIO()
    picture.save(encoded, format=picture_format(path))
    write(path, encoded.getvalue())
