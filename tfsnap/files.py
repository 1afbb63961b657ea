"""Files that appear whole or not at all."""

import os
import pathlib


def write_whole(path: pathlib.Path, content: bytes) -> None:
    """Writes a file, complete or not at all; through a link, what it points at.

    What `stays_in_place` is written to as it is.

    Raises:
      OSError: it cannot be written.
    """
    if stays_in_place(path):
        _write_into(path, content)
        return
    target = pathlib.Path(os.path.realpath(path))
    # Its own, so that two processes do not write one; cut, as the whole may be too long.
    partial = target.with_name(f".{target.name[:32]}.{os.getpid()}.partial")
    try:
        partial.write_bytes(content)
        os.replace(partial, target)
    finally:
        partial.unlink(missing_ok=True)


def stays_in_place(path: pathlib.Path) -> bool:
    """Whether a path is a device, a pipe, or a file that somebody holds open: /dev/stdout.

    Another file in its place would not be the one that is open: all else that is written there,
    before and after, would be lost.
    """
    # Asked of the path, as what /dev/stdout links to has no name if it is a pipe.
    return path.exists() and (not path.is_file() or _descriptor(path) is not None)


def _descriptor(path: pathlib.Path) -> pathlib.Path | None:
    """The entry among a process's open files that a path leads to, such as /proc/123/fd/1."""
    while True:
        path = pathlib.Path(os.path.realpath(path.parent), path.name)
        if path.parent.name == "fd" and path.parts[1] in ("dev", "proc"):
            return path
        if not path.is_symlink():
            return None
        path = path.parent / os.readlink(path)


def _write_into(path: pathlib.Path, content: bytes) -> None:
    opened: str | int = str(path)
    found = _descriptor(path)
    if found and found.parent == pathlib.Path(os.path.realpath("/dev/fd")):
        # Opened anew it would have a place of its own in the file, and what is printed next would
        # be written over this.
        opened = int(found.name)
    with open(opened, "ab", closefd=isinstance(opened, str)) as file:
        file.write(content)
