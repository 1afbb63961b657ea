"""Fetches what is not ours to commit: emoji art and labels from npm, CLIP's merges from PyPI.

Each file is pinned by version and SHA-256, lands under its final name only when complete and
verified, and is not fetched again while it is intact: a rerun continues where an earlier run ended.
Without a network, put the files into the folder by hand; their names are those of `Tarball.file`.
"""

import contextlib
import dataclasses
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Iterator

from tfsnap.checksum import file_sha256
from tfsnap.errors import TfsnapError

_OFFLINE = ("ENOTFOUND", "EAI_AGAIN", "ECONNREFUSED", "ECONNRESET", "ETIMEDOUT", "ENETUNREACH",
            "Temporary failure", "Failed to establish", "Connection", "timed out")  # fmt: skip
_CORRUPT = ("EINTEGRITY", "TAR_BAD_ARCHIVE")

MERGES_FILE = "bpe_simple_vocab_16e6.txt.gz"
MERGES_SHA256 = "924691ac288e54409236115652ad4aa250f48203de50a9e4722a6ecd48d6804a"
_MERGES_WHEEL = "open_clip_torch==3.3.0"
_MERGES_MEMBER = f"open_clip/{MERGES_FILE}"


class FetchError(TfsnapError, RuntimeError):
    """A file could not be fetched or is not what was pinned: one line with the remedy."""


@dataclasses.dataclass(frozen=True)
class Tarball:
    """One version of one npm package, and what `npm pack` must write for it."""

    package: str
    version: str
    sha256: str

    @property
    def file(self) -> str:
        """The name that `npm pack` gives the tarball."""
        return f"{self.package.lstrip('@').replace('/', '-')}-{self.version}.tgz"


NOTO = Tarball(
    "@iconify-json/noto",
    "1.2.9",
    "3e918d88fc945c0bb3d468dbace6f88caef67f01c9f0e7bcae0915a042e8f1ad",
)
TWEMOJI = Tarball(
    "@iconify-json/twemoji",
    "1.2.5",
    "19046dff7d8707ce96212ec86468b36ac5f8e60409629dd13f809265c6d0ebb7",
)
FLUENT_FLAT = Tarball(
    "@iconify-json/fluent-emoji-flat",
    "1.2.6",
    "7d064769dee690815f823bc5bcc511d957198caf9f5edd8dd9c1aa48a6aeb175",
)
FLUENT_3D = Tarball(
    "@lobehub/fluent-emoji-3d",
    "1.1.0",
    "c1bb7eee7de090205a232518a9ab4adb3df458bfbe8a1f78232991194c8b2e58",
)
EMOJIBASE = Tarball(
    "emojibase-data",
    "17.0.0",
    "d01d0e2ca4e22cb402679532155342c71e2e871f25c32223c013b8b166ebdf5a",
)
EMOJI_TARBALLS = (NOTO, TWEMOJI, FLUENT_FLAT, FLUENT_3D, EMOJIBASE)


def data_root(data_dir: str | os.PathLike | None = None) -> pathlib.Path:
    """Returns where data lives: `data_dir`, else $TFSNAP_DATA, else ~/.cache/tfsnap."""
    chosen = data_dir or os.environ.get("TFSNAP_DATA") or "~/.cache/tfsnap"
    return pathlib.Path(chosen).expanduser()


def fetch_tarball(tarball: Tarball, *, data_dir: str | os.PathLike | None = None) -> pathlib.Path:
    """Returns the path of an npm tarball, after fetching it with `npm pack` where needed.

    Args:
      tarball: what to fetch.
      data_dir: see `data_root`; the file lies in its folder `downloads`.

    Returns:
      The path of the verified file.

    Raises:
      FetchError: npm is missing or fails, there is no network, or the content is not as pinned.
    """
    target = _downloads(data_dir) / tarball.file
    if _intact(target, tarball.sha256):
        return target
    name = f"{tarball.package}@{tarball.version}"
    by_hand = f"or put {tarball.file} into {target.parent}"
    if shutil.which("npm") is None:
        state = f"{target} is corrupt" if target.exists() else f"There is no {target}"
        raise FetchError(
            f"{state}, and npm, which fetches it, is not on the PATH: install npm "
            f"(apt-get install npm), {by_hand}"
        )
    with _partial_folder(target.parent) as folder:
        # One retry: npm's own two wait for more than a minute before it says that it is offline.
        command = ["npm", "pack", name, "--ignore-scripts", "--fetch-retries=1"]
        _run(command, folder, what=name, by_hand=by_hand)
        _publish(folder / tarball.file, target, tarball.sha256, by_hand=by_hand)
    return target


def fetch_merges(*, data_dir: str | os.PathLike | None = None) -> pathlib.Path:
    """Returns the path of CLIP's BPE merges, taken from open_clip's wheel where needed.

    Args:
      data_dir: see `data_root`; the file lies in its folder `downloads`.

    Returns:
      The path of the verified file, for `tfsnap.tokenizer.Tokenizer`.

    Raises:
      FetchError: pip fails, there is no network, or the content is not as pinned.
    """
    target = _downloads(data_dir) / MERGES_FILE
    if _intact(target, MERGES_SHA256):
        return target
    by_hand = f"or put {MERGES_FILE} into {target.parent}"
    with _partial_folder(target.parent) as folder:
        command = [sys.executable, "-m", "pip", "download", "--no-deps", "--only-binary=:all:"]
        command += ["--quiet", "--disable-pip-version-check", "--retries=1", _MERGES_WHEEL]
        _run(command, folder, what=_MERGES_WHEEL, by_hand=by_hand)
        (wheel,) = folder.glob("*.whl")
        try:
            with zipfile.ZipFile(wheel) as archive:
                (folder / MERGES_FILE).write_bytes(archive.read(_MERGES_MEMBER))
        except (zipfile.BadZipFile, KeyError) as error:
            raise FetchError(
                f"The wheel of {_MERGES_WHEEL} is corrupt ({error}): run again, {by_hand}"
            ) from error
        _publish(folder / MERGES_FILE, target, MERGES_SHA256, by_hand=by_hand)
    return target


def _downloads(data_dir: str | os.PathLike | None) -> pathlib.Path:
    folder = data_root(data_dir) / "downloads"
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise FetchError(
            f"Cannot write to {folder} ({error.strerror}): choose a folder with --data_dir or "
            "$TFSNAP_DATA"
        ) from error
    return folder


@contextlib.contextmanager
def _partial_folder(downloads: pathlib.Path) -> Iterator[pathlib.Path]:
    """A folder on the target's own file system, so that the last rename is atomic."""
    with tempfile.TemporaryDirectory(prefix="partial-", dir=downloads) as folder:
        yield pathlib.Path(folder)


def _run(command: list[str], folder: pathlib.Path, *, what: str, by_hand: str) -> None:
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    if done.returncode == 0:
        return
    if any(sign in done.stderr for sign in _CORRUPT):
        raise FetchError(
            f"The download of {what} arrived corrupt: run again (npm cache verify if it stays so), "
            f"{by_hand}"
        )
    if any(sign in done.stderr for sign in _OFFLINE):
        raise FetchError(
            f"No connection to the registry to fetch {what}: run again when online, {by_hand}"
        )
    lines = done.stderr.splitlines() or [f"exit status {done.returncode}"]
    said = next((line for line in lines if "error" in line.lower()), lines[-1])
    raise FetchError(
        f"{command[0]} could not fetch {what} ({said}): mend that and run again, {by_hand}"
    )


def _publish(source: pathlib.Path, target: pathlib.Path, sha256: str, *, by_hand: str) -> None:
    """Moves a verified file to its final name."""
    if not source.is_file():
        raise FetchError(f"The registry sent no {source.name}: run again, {by_hand}")
    found = file_sha256(source)
    if found != sha256:
        raise FetchError(
            f"{source.name} is corrupt: its SHA-256 is {found[:12]}... where {sha256[:12]}... is "
            f"pinned; run again, {by_hand}"
        )
    os.replace(source, target)


def _intact(path: pathlib.Path, sha256: str) -> bool:
    return path.is_file() and file_sha256(path) == sha256
