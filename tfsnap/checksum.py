"""Checksums of files."""

import functools
import hashlib
import os


def file_sha256(path: str | os.PathLike) -> str:
    """SHA-256 of a file, 64 hexadecimal digits.

    Raises:
      OSError: it cannot be read.
    """
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def file_sha256_once(path: str | os.PathLike) -> str:
    """As `file_sha256`, of which a process reads a file once as long as nobody writes it."""
    about = os.stat(path)
    return _of_identity(path, about.st_dev, about.st_ino, about.st_size, about.st_mtime_ns)


@functools.lru_cache
def _of_identity(path: str | os.PathLike, *identity: int) -> str:
    del identity  # By which another file of that name is told.
    return file_sha256(path)
