"""Flags that are lists: named paths, networks, numbers."""

import urllib.parse
from typing import NamedTuple

from absl import flags

from tfsnap.diffusion.samplers import SAMPLERS


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
    """NAME=PATH,... as a dict; names become names of files.

    Raises:
      ValueError: an entry has no path, no such name, or one that was there before.
    """
    found: dict[str, str] = {}
    for value in flag.value:
        name, _, path = value.partition("=")
        if not path or not name.replace("-", "").replace("_", "").isalnum() or name in found:
            raise ValueError(
                f"--{flag.name} has {value!r}; it is a list of NAME=PATH, each name a different "
                "one of letters, digits, - and _"
            )
        found[name] = path
    return found


def networks(flag: flags.FlagHolder) -> dict[str, NetworkFlag]:
    """NAME=PATH?steps=8&guidance=3&sampler=ddim,... as a dict; each setting may be left out.

    Raises:
      ValueError: as `named_paths`, or a setting is unknown or its value is not one.
    """
    found = {}
    for name, value in named_paths(flag).items():
        path, _, query = value.partition("?")
        try:
            given = dict(urllib.parse.parse_qsl(query, strict_parsing=bool(query)))
            kinds = {"steps": int, "guidance": float, "sampler": str}
            network = NetworkFlag(path, **{key: kinds[key](text) for key, text in given.items()})
        except (KeyError, ValueError) as error:
            raise ValueError(_settings(flag, name, query)) from error
        few = network.steps is not None and network.steps < 1
        negative = network.guidance is not None and not network.guidance >= 0
        if few or negative or (network.sampler and network.sampler not in SAMPLERS):
            raise ValueError(_settings(flag, name, query))
        found[name] = network
    return found


def _settings(flag: flags.FlagHolder, name: str, query: str) -> str:
    return (
        f"--{flag.name} has {query!r} for {name}; behind the ? may come steps=, guidance= and "
        f"sampler= (one of {', '.join(SAMPLERS)}), joined by &"
    )


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
        found = [kind(value) for value in flag.value]
    except ValueError:
        found = []
    if len(found) < len(flag.value) or any(not number >= least for number in found):
        raise ValueError(
            f"--{flag.name} is {','.join(flag.value)!r}; it is a list of numbers, {least} or more"
        )
    return list(dict.fromkeys(found))
