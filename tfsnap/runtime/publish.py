"""Puts a finished bundle in its place, as a folder or as one file: all of it or nothing."""

import os
import pathlib
import shutil
import zipfile

from tfsnap.runtime.archive import SUFFIX, is_archive_name, write_archive
from tfsnap.runtime.manifest import MANIFEST


def require_replaceable(output: pathlib.Path) -> None:
    """Checks that what is at `output`, if anything, is a bundle of the kind that is to be written.

    Raises:
      FileExistsError: it is something else.
    """
    if not output.exists():
        return
    if is_archive_name(output):
        if not _is_archive(output):
            raise FileExistsError(
                f"{output} exists and is no bundle in one file; choose another --output"
            )
    elif not (output / MANIFEST).is_file():
        raise FileExistsError(
            f"{output} exists and is not a bundle; choose another --output (a name that ends in "
            f"{SUFFIX} is written as one file)"
        )


def _is_archive(path: pathlib.Path) -> bool:
    if not path.is_file() or not zipfile.is_zipfile(path):
        return False
    with zipfile.ZipFile(path) as archive:
        return MANIFEST in archive.namelist()


def publish(folder: pathlib.Path, output: pathlib.Path) -> None:
    """Moves a bundle's folder to `output`; an earlier bundle there is replaced at the very end.

    Args:
      folder: the finished bundle, beside `output`; gone afterwards.
      output: the bundle, in one file where `is_archive_name` says so.

    Raises:
      OSError: there is no space left; what was at `output` is still there.
    """
    if is_archive_name(output):
        _publish_file(folder, output)
    else:
        _publish_folder(folder, output)


def _publish_file(folder: pathlib.Path, output: pathlib.Path) -> None:
    partial = output.with_name(f".{output.name}.partial")
    try:
        write_archive(folder, partial)
        os.replace(partial, output)
    finally:
        partial.unlink(missing_ok=True)
    shutil.rmtree(folder)


def _publish_folder(folder: pathlib.Path, output: pathlib.Path) -> None:
    """Renames `folder` to `output`; an earlier bundle there is removed last."""
    old = output.with_name(f".{output.name}.old")
    shutil.rmtree(old, ignore_errors=True)
    if output.exists():
        os.replace(output, old)
    os.replace(folder, output)
    shutil.rmtree(old, ignore_errors=True)
