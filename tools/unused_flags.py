"""Flags that would change nothing are refused, so that nobody relies on them."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # Programs without absl refuse flags, too.
    from absl import flags


def given(*holders: flags.FlagHolder) -> list[str]:
    """The names of those flags that the command line has."""
    return [holder.name for holder in holders if holder.present]


def refuse(names: Iterable[str], about: str, otherwise: str = "") -> None:
    """Refuses flags that were given.

    Args:
      names: theirs; none is well.
      about: what they do not matter to.
      otherwise: what to give for them to matter, as "give --unet".

    Raises:
      ValueError: there are some.
    """
    told = [f"--{name}" for name in names]
    if not told:
        return
    flags, says, them = ", ".join(told[:-1]), "says", "it"
    if flags:
        flags, says, them = f"{flags} and ", "say", "them"
    choice = f", or {otherwise}" if otherwise else ""
    raise ValueError(f"{flags}{told[-1]} {says} nothing about {about}: leave {them} out{choice}")
