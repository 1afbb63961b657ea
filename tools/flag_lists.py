"""Flags that are lists: named paths, numbers."""

from absl import flags


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
