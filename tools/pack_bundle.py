#!/usr/bin/env python3
"""Packs a bundle's folder into one file, or unpacks one.

    tools/pack_bundle.py --bundle=runs/demo/fp16 --output=emoji.tfsnap
    tools/pack_bundle.py --bundle=emoji.tfsnap --output=emoji

An output that ends in .tfsnap is one file, any other a folder. The bundle is checked before and
after; an earlier one at the output is replaced at the very end.
"""

import os
import pathlib
import shutil
import sys

from absl import flags

# Programs are run from anywhere: the repository's root holds `tools`.
sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))

from tfsnap.export.publishing import published
from tfsnap.runtime.archive import read_archive
from tfsnap.runtime.bundle import Bundle
from tfsnap.runtime.errors import RequestError
from tfsnap.runtime.publish import require_outside
from tools.program import run_main

_BUNDLE = flags.DEFINE_string("bundle", None, "The bundle: folder or file.")
_OUTPUT = flags.DEFINE_string("output", None, "The same bundle, as a file or folder.")


def main() -> None:
    repack(pathlib.Path(_BUNDLE.value), pathlib.Path(_OUTPUT.value))
    print(f"Bundle: {_OUTPUT.value}")


def repack(source: pathlib.Path, output: pathlib.Path) -> None:
    """Copies a bundle, from and to a folder or a file."""
    Bundle.open(source)
    here, there = (pathlib.Path(os.path.realpath(path)) for path in (source, output))
    if here in there.parents:
        raise RequestError(f"--output={output} is in the bundle itself: give a name outside of it")
    if here != there:  # A bundle may take its own place: it is copied first.
        require_outside(output, bundle=source)
    with published(output) as folder:
        if source.is_dir():
            copy_files(source, folder)
        else:
            read_archive(source, folder)
        Bundle.open(folder)


def copy_files(source: pathlib.Path, folder: pathlib.Path) -> None:
    """Copies all files of a folder; of a link, what it leads to."""
    # One by one: `shutil.copytree` tells what fails as a list that nobody can read.
    for path in sorted(source.rglob("*")):
        if path.is_symlink() and not path.exists():
            raise RequestError(
                f"{path} is a link to {os.readlink(path)}, which is not there: remove or mend it"
            )
        if path.is_file():
            target = folder / path.relative_to(source)
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(path, target)


if __name__ == "__main__":
    flags.mark_flags_as_required(["bundle", "output"])
    run_main(main)
