"""Where the files of a bundle are: in a folder, or in one zip whose members are only stored."""

import contextlib
import errno
import hashlib
import os
import pathlib
import zipfile
from collections.abc import Iterator
from typing import BinaryIO, Protocol

from tfsnap.runtime.errors import BundleError, one_line
from tfsnap.runtime.manifest import MANIFEST, require_safe_name

SUFFIX = ".tfsnap"  # Of the names that mean an archive; all others are folders.
_BEGINNING = b"PK\3\4"  # Of a zip, whose directory is at its end.
_ANOTHER = "another file is there now"
_ENCRYPTED = 0x1  # Bit of a zip member's flags.
# What `zipfile` says of damage, which can also look like a newer kind of zip.
ZIP_ERRORS = (zipfile.BadZipFile, NotImplementedError, IndexError)


def changed(file: object, error: Exception) -> BundleError:
    """What is told of a file that could be read when its bundle was opened."""
    reason = getattr(error, "strerror", None) or one_line(error) or "it ends too early"
    return BundleError(
        f"{file} cannot be read: {reason}: the bundle was changed since it was opened, open it "
        "again"
    )


def damaged(path: object, reason: str = "") -> BundleError:
    """What is told of an archive that is not as it was written."""
    reason = f" ({reason})" if reason else ""
    return BundleError(f"{path} is cut short or damaged{reason}: copy or export it again")


@contextlib.contextmanager
def told_as_damage(path: object) -> Iterator[None]:
    """Turns what a damaged archive makes `zipfile` raise into one line with the remedy.

    Raises:
      BundleError: the archive at `path` is damaged.
    """
    try:
        yield
    except (EOFError, *ZIP_ERRORS) as error:
        raise damaged(path, one_line(error) or "it ends too early") from error
    except OSError as error:
        if error.errno != errno.EINVAL:
            raise
        # Where bytes are missing, offsets lead to before the file's beginning.
        raise damaged(path, "bytes are missing") from error


def is_archive(path: pathlib.Path) -> bool:
    """Whether a file is a zip, or was one before it was damaged, or is called a bundle.

    Raises:
      OSError: it cannot be read.
    """
    if path.suffix == SUFFIX or zipfile.is_zipfile(path):
        return True
    with path.open("rb") as file:
        return file.read(len(_BEGINNING)) == _BEGINNING


class Storage(Protocol):
    """Read access to the files of a bundle by their relative names."""

    def names(self) -> set[str]:
        """Returns the names of all files."""

    def open(self, name: str) -> BinaryIO:
        """Opens a file of `names` for reading."""

    def path(self, name: str) -> pathlib.Path | None:
        """Returns where a file lies by itself; None inside of an archive.

        Raises:
          BundleError: it is another than when it was first opened.
        """


class Folder:
    """A bundle that is a directory.

    A file must stay the one that was opened first, for its checksum: another bundle's network, put
    there meanwhile, may fit and draw something else.
    """

    def __init__(self, root: pathlib.Path):
        self._root = root
        self._opened: dict[str, tuple[int, ...]] = {}

    def names(self) -> set[str]:
        files = (path for path in self._root.rglob("*") if path.is_file())
        return {path.relative_to(self._root).as_posix() for path in files}

    def open(self, name: str) -> BinaryIO:
        file = (self._root / name).open("rb")
        try:
            self._require_same(name, os.fstat(file.fileno()))
        except BundleError:
            file.close()
            raise
        return file

    def path(self, name: str) -> pathlib.Path:
        path = self._root / name
        try:
            self._require_same(name, path.stat())
        except OSError as error:
            raise changed(path, error) from error
        return path

    def _require_same(self, name: str, about: os.stat_result) -> None:
        identity = (about.st_dev, about.st_ino, about.st_size, about.st_mtime_ns)
        if self._opened.setdefault(name, identity) != identity:
            raise changed(self._root / name, OSError(_ANOTHER))


class Archive:
    """A bundle that is one zip file.

    Members must be stored, not compressed: networks hardly shrink, and a phone can map them into
    memory where they lie. For that they lie at pages of their own, see `tfsnap.runtime.archive`;
    reading them as it is done here needs no alignment, so that any stored zip will do.
    """

    def __init__(self, path: pathlib.Path):
        self._path = path.absolute()
        self._zip = zipfile.ZipFile(path)
        self._process = os.getpid()
        members = [info for info in self._zip.infolist() if not info.is_dir()]
        for info in members:
            require_safe_name(info.filename)
            if info.flag_bits & _ENCRYPTED:
                raise ValueError(f"its member {info.filename} is encrypted: zip it unencrypted")
            if info.compress_type != zipfile.ZIP_STORED:
                raise ValueError(
                    f"its member {info.filename} is compressed: zip the bundle with stored members "
                    "(zip -0 -r)"
                )
        self._names = {info.filename for info in members}
        if len(self._names) < len(members):
            raise ValueError("it holds two members of one name: zip the bundle again")

    def names(self) -> set[str]:
        return self._names

    def open(self, name: str) -> BinaryIO:
        if self._process != os.getpid():
            self._open_again()
        return self._zip.open(name)

    def path(self, name: str) -> None:
        return None

    def _open_again(self) -> None:
        """For a forked process: with its parent it shares the place in the file that is read."""
        opened = zipfile.ZipFile(self._path)
        was, now = (os.fstat(archive.fp.fileno()) for archive in (self._zip, opened))
        if not os.path.samestat(was, now):
            raise zipfile.BadZipFile(_ANOTHER)
        self._zip, self._process = opened, os.getpid()


def open_storage(path: str | os.PathLike) -> Storage:
    """Opens a bundle's folder or zip.

    Raises:
      BundleError: there is nothing, or nothing that can be a bundle, at `path`, or it is damaged.
    """
    path = pathlib.Path(path)
    if path.is_dir():
        if not (path / MANIFEST).is_file():
            run = "; it seems to be a run, of which tools/export.py makes one"
            hint = run if (path / "config.json").is_file() else ""
            raise BundleError(f"{path} is no tfsnap bundle: it has no {MANIFEST}{hint}")
        return Folder(path)
    if not path.exists():
        raise BundleError(f"No bundle at {path}: give the folder or zip that tools/export.py wrote")
    if not path.is_file() or not is_archive(path):
        raise BundleError(f"{path} is no tfsnap bundle: it is neither a folder nor a zip file")
    if not zipfile.is_zipfile(path):
        raise damaged(path)
    try:
        with told_as_damage(path):
            archive = Archive(path)
    except BundleError:
        raise
    except ValueError as error:
        raise BundleError(f"{path} cannot be opened: {error}") from error
    if MANIFEST not in archive.names():
        raise BundleError(f"{path} is no tfsnap bundle: it has no {MANIFEST} at its top")
    return archive


def sha256(storage: Storage, name: str) -> str:
    """Returns the SHA-256 of a file, 64 hexadecimal digits."""
    with storage.open(name) as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
