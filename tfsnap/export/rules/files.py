"""The files that a check writes, looked at before the work: neither it nor another file is lost."""

import itertools
import json
import os
import pathlib
from typing import Any

from tfsnap.runtime.errors import RequestError
from tfsnap.runtime.output import require_report, write


def require_usable(
    model: str | None,
    *,
    record: str | None = None,
    report: str | None = None,
    ranges: str | None = None,
) -> None:
    """Checks the files that flags name.

    Args:
      model: the bundle or file that is looked at; None if it is no file.
      record: --record, a file to write ranges to.
      report: --json, a file to write findings to.
      ranges: --ranges, a file that is read.

    Raises:
      RequestError: one cannot be written, or something else would be lost.
    """
    if record and pathlib.Path(record).suffix != ".json":
        raise RequestError(f"--record={record} is written as JSON: give a name that ends in .json")
    named = {"json": report, "record": record, "ranges": ranges}
    places = {flag: pathlib.Path(os.path.realpath(name)) for flag, name in named.items() if name}
    for one, other in itertools.combinations(places, 2):
        if places[one] == places[other]:
            raise RequestError(f"--{one} and --{other} name one file, {named[one]}: give two")
    for flag in ("record", "json"):
        if named[flag]:
            require_report(pathlib.Path(named[flag]), of=model, flag=f"--{flag}")


def save(path: str | os.PathLike, values: Any) -> None:
    """Writes JSON types, whole or not at all.

    Raises:
      RequestError: the file cannot be written.
    """
    write(pathlib.Path(path), (json.dumps(values, indent=1) + "\n").encode())
