"""Puts a finished bundle in its place, as a folder or as one file: all of it or nothing."""

import errno
import json
import os
import pathlib
import shutil

from tfsnap.runtime.archive import SUFFIX, is_archive_name, write_archive
from tfsnap.runtime.errors import RequestError
from tfsnap.runtime.manifest import FORMAT, MANIFEST
from tfsnap.runtime.storage import open_storage, told_as_damage


def target_of(output: pathlib.Path) -> pathlib.Path:
    """Where a bundle really goes: what a link leads to, so that the link stays one.

    Args:
      output: the bundle, or a link to where it is or is to be.

    Raises:
      RequestError: it names no bundle, or the link leads to one of the other kind.
      OSError: the link leads to itself.
    """
    if output.name in ("", ".."):
        raise RequestError(
            f"--output is empty or names no bundle ({str(output)!r}): give a name such as "
            f"runs/emoji/fp16, or emoji{SUFFIX} for one file"
        )
    if not output.is_symlink():
        return output
    try:
        target = output.resolve()
    except RuntimeError as error:  # Of Python before 3.13, which does not tell it as an OSError.
        raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), str(output)) from error
    if is_archive_name(target) != is_archive_name(output):
        raise RequestError(
            f"{output} is a link to {target}, and only one of the names ends in {SUFFIX}: give the "
            "second as --output"
        )
    return target


def require_replaceable(output: pathlib.Path) -> None:
    """Checks that what is at `output`, if anything, is a bundle of the kind that is to be written.

    Raises:
      FileExistsError: it is something else.
    """
    if not output.exists():
        return
    if is_archive_name(output):
        if not output.is_file() or not _is_bundle(output):
            raise FileExistsError(
                f"{output} exists and is no bundle in one file; choose another --output"
            )
    elif not output.is_dir() or not _is_bundle(output):
        raise FileExistsError(
            f"{output} exists and is not a bundle; choose another --output (a name that ends in "
            f"{SUFFIX} is written as one file)"
        )


def require_outside(output: pathlib.Path, **sources: str | os.PathLike | None) -> None:
    """Checks that nothing that a bundle is made of goes when it takes an earlier one's place.

    Args:
      output: the bundle.
      sources: files and folders by the flag that names them; None and what is not there pass.

    Raises:
      RequestError: one is in the bundle at `output`, or in what an interrupted exchange left.
    """
    for flag, source in sources.items():
        place = replaced_with(source, output) if source and os.path.exists(source) else None
        if place is not None:
            raise RequestError(
                f"--{flag}={source} is in {place}, which --output={output} replaces as a whole: "
                "choose another --output"
            )


def replaced_with(path: str | os.PathLike, output: pathlib.Path) -> pathlib.Path | None:
    """Where a file or folder, there or not, goes when a bundle takes an earlier one's place.

    Args:
      path: the file or folder.
      output: the bundle.

    Returns:
      The bundle at `output`, or what an interrupted exchange left of it; None if it is in neither.
    """
    if output.name in ("", ".."):
        return None  # `target_of` says why it is refused.
    target, inside = (pathlib.Path(os.path.realpath(name)) for name in (output, path))
    return next((p for p in (target, old_of(target)) if inside.is_relative_to(p)), None)


def _is_bundle(path: pathlib.Path) -> bool:
    """Whether a folder or an archive says so itself: much else has a file of the manifest's name.

    Of any version, and damaged but for its manifest, it is still a bundle.
    """
    try:
        with told_as_damage(path), open_storage(path).open(MANIFEST) as file:
            values = json.load(file)
    except (ValueError, RecursionError):
        return False
    return isinstance(values, dict) and values.get("format") == FORMAT


def publish(folder: pathlib.Path, output: pathlib.Path) -> None:
    """Moves a bundle's folder to `output`; an earlier bundle there is replaced at the very end.

    Args:
      folder: the finished bundle, beside `output`; gone afterwards.
      output: the bundle, in one file where `is_archive_name` says so. Where it is a link, `folder`
        is beside what `target_of` returns.

    Raises:
      RequestError: see `target_of`.
      OSError: there is no space left; what was at `output` is still there.
    """
    output = target_of(output)
    if is_archive_name(output):
        _publish_file(folder, output)
    else:
        _publish_folder(folder, output)


def _publish_file(folder: pathlib.Path, output: pathlib.Path) -> None:
    # In the folder, as that is no other process's, and goes if this one is killed.
    partial = folder / f".{output.name}.partial"
    try:
        write_archive(folder, partial)
        os.replace(partial, output)
    finally:
        partial.unlink(missing_ok=True)
    shutil.rmtree(folder)


def _publish_folder(folder: pathlib.Path, output: pathlib.Path) -> None:
    """Renames `folder` to `output`; an earlier bundle there is removed last."""
    old = old_of(output)
    if output.exists():
        remove(old)  # Where there is no `output`, this is all that is left of it.
        os.replace(output, old)
    os.replace(folder, output)
    remove(old)


def old_of(output: pathlib.Path) -> pathlib.Path:
    """Where an earlier bundle is while another takes its place."""
    return output.with_name(f".{output.name}.old")


def remove(old: pathlib.Path) -> None:
    """Removes a folder, or a link that stands for one."""
    if old.is_symlink():
        old.unlink()
    shutil.rmtree(old, ignore_errors=True)
