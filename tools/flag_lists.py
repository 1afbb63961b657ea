"""Flags that are lists: named paths, networks, numbers."""

import functools
import re
import urllib.parse
from typing import NamedTuple

from absl import flags

from tfsnap.diffusion.samplers import SAMPLERS
from tfsnap.metrics.sweep import shared_name

_NAME = re.compile(r"[\w-]+(@\w+)?")


class NetworkFlag(NamedTuple):
    """A network and what is fixed for it.

    Attributes:
      path: a run or a bundle.
      steps: of the sampler, or None.
      guidance: the guidance scale, or None.
      sampler: one of `SAMPLERS`, or None.
    """

    path: str
    steps: int | None = None
    guidance: float | None = None
    sampler: str | None = None


def named_paths(flag: flags.FlagHolder) -> dict[str, str]:
    """NAME=PATH,... as a dict; names become names of files, and NAME may be NAME@0.

    Raises:
      ValueError: an entry has no path, no such name, or one that was there before.
    """
    found: dict[str, str] = {}
    for value in flag.value:
        name, _, path = value.partition("=")
        if not path or not _NAME.fullmatch(name) or name in found:
            raise ValueError(
                f"--{flag.name} has {value!r}; it is a list of NAME=PATH, each name a different "
                "one of letters, digits, - and _, where trainings of one network are NAME@0, NAME@1"
            )
        found[name] = path
    return found


def networks(flag: flags.FlagHolder) -> dict[str, NetworkFlag]:
    """NAME=PATH?steps=8&guidance=3&sampler=ddim,... as a dict; each setting may be left out.

    Raises:
      ValueError: as `named_paths`, a setting is unknown, there twice or its value is not one, or
        a name is there both with a training's number and without.
    """
    found = {}
    for name, value in named_paths(flag).items():
        path, _, query = value.partition("?")
        try:
            given = urllib.parse.parse_qsl(
                query, keep_blank_values=True, strict_parsing=bool(query)
            )
            settings = {key: _SETTINGS[key](text) for key, text in given}
            if len(settings) < len(given):
                raise ValueError(f"{query} has a setting twice")
        except (KeyError, ValueError) as error:
            raise ValueError(
                f"--{flag.name} has {query!r} for {name}; behind the ? may come steps=, guidance= "
                f"and sampler= (one of {', '.join(SAMPLERS)}), each once, joined by &"
            ) from error
        found[name] = NetworkFlag(path, **settings)
    for name in found:
        shared = shared_name(name)
        if shared in found and shared != name:
            raise ValueError(
                f"--{flag.name} has {shared} and {name}: give all trainings of {shared} a number"
            )
    return found


def _number(kind: type, least: float, text: str) -> float:
    number = kind(text)
    if not number >= least:
        raise ValueError(f"{text} is below {least}")
    return number


def _sampler(name: str) -> str:
    if name not in SAMPLERS:
        raise ValueError(f"{name} is no sampler")
    return name


_SETTINGS = {
    "steps": functools.partial(_number, int, 1),
    "guidance": functools.partial(_number, float, 0),
    "sampler": _sampler,
}


def numbers(flag: flags.FlagHolder, kind: type, least: float) -> list:
    """The numbers of a list.

    Args:
      flag: the list.
      kind: int or float.
      least: what each must reach.

    Raises:
      ValueError: an entry is none.
    """
    try:
        found = [_number(kind, least, value) for value in flag.value]
    except ValueError as error:
        raise ValueError(
            f"--{flag.name} is {','.join(flag.value)!r}; it is a list of numbers, {least} or more"
        ) from error
    return list(dict.fromkeys(found))
