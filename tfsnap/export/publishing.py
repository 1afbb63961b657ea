"""A bundle that appears whole or not at all, whenever the process that makes it may be killed."""

import contextlib
import errno
import os
import pathlib
from collections.abc import Iterator

from tfsnap.errors import TfsnapError
from tfsnap.runtime.publish import old_of, publish, remove, require_replaceable, target_of
from tfsnap.temporary import temporary_folder

_NOT_WRITABLE = (
    errno.EACCES,
    errno.EPERM,
    errno.EROFS,
    errno.ENOTDIR,
    errno.EEXIST,
    errno.ELOOP,
    errno.ENAMETOOLONG,
)


class ExportError(TfsnapError, ValueError):
    """A bundle cannot be written: the message says why and what to do."""


@contextlib.contextmanager
def published(output: pathlib.Path) -> Iterator[pathlib.Path]:
    """Gives a temporary folder beside `output` that takes its place at the end.

    If anything fails the folder is removed and `output` stays as it was. A process that was killed
    leaves a hidden folder behind, which the next call for the same `output` removes.

    Args:
      output: bundle to make, see `tfsnap.runtime.publish.publish`; an earlier one is replaced, and
        where `output` is a link, what it leads to.

    Raises:
      ExportError: something else is at `output`, it is no name for a bundle, it cannot be written
        to, or its disk is full. What happens to other files stays as it is.
    """
    output = _replaceable(output)
    with contextlib.ExitStack() as stack:
        with _explained(output):
            folder = stack.enter_context(temporary_folder(output))
        with _explained(output, folder):
            yield folder
            publish(folder, output)


def _replaceable(output: pathlib.Path) -> pathlib.Path:
    """Where the bundle goes, once it is clear that it may."""
    try:
        with _explained(output):
            target = target_of(output)
            _recover(target)
            require_replaceable(target)
    except (FileExistsError, ValueError) as error:
        raise ExportError(str(error)) from error
    return target


@contextlib.contextmanager
def _explained(output: pathlib.Path, folder: pathlib.Path | None = None) -> Iterator[None]:
    """Tells what `output` has to do with an error.

    Args:
      output: the bundle.
      folder: the temporary one, in which anything may happen; None before there is one, when all
        that can fail is about `output`.
    """
    try:
        yield
    except OSError as error:
        if folder and not _is_about(error, folder, output, old_of(output)):
            raise
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise ExportError(
                f"no space is left for {output}: free some, or choose an --output on another disk"
            ) from error
        if error.errno in _NOT_WRITABLE or (not folder and error.errno):
            named = not folder and error.filename not in (None, str(output))
            where = f": {error.filename}" if named else ""
            raise ExportError(
                f"{output} cannot be written ({error.strerror}{where}); choose another --output"
            ) from error
        raise


def _is_about(error: OSError, *places: pathlib.Path) -> bool:
    """Whether an error names one of these, or something in one; of a copy, it names both files.

    Errors of writing to an open file name none. Nearly all that is written meanwhile is here.
    """
    names = (error.filename, error.filename2)
    paths = [os.path.abspath(os.fsdecode(n)) for n in names if isinstance(n, str | bytes)]
    below = (pathlib.Path(p).is_relative_to(os.path.abspath(q)) for p in paths for q in places)
    return not paths or any(below)


def _recover(output: pathlib.Path) -> None:
    """Ends what a process was killed in the midst of: the exchange of two folders."""
    old = old_of(output)
    if old.exists() and not output.exists():
        os.replace(old, output)
    remove(old)
