"""What a round is for, to remove blocks or to add one, and what its race must not lose for that."""

import dataclasses
import functools
import math
from collections.abc import Callable, Sequence
from typing import ClassVar, Protocol

from tfsnap.config import UNetConfig
from tfsnap.evolve.actions import REMOVE, Action, apply, possible
from tfsnap.evolve.ranking import Scored, choose, choose_copy, copy_of, level_of, stages_of


class Goal(Protocol):
    """What the scores of a round are wanted for.

    Attributes:
      sign: of the scores in the race, whose lowest are wanted.
      floor: scores in the race are as good as this one if they are lower.
      most: how many edits of those in the race are wanted.
    """

    sign: float
    floor: float
    most: int

    def hopeless(self, action: Action, better: Sequence[Action]) -> bool:
        """Whether an edit is not chosen, whatever those are worth that may yet come before it.

        Args:
          action: a removal in the race.
          better: those that come before it in any case.
        """
        ...

    def choose(self, ranked: Sequence[Scored]) -> list[Scored]:
        """The edits to be made, of the removals of all blocks."""
        ...


@dataclasses.dataclass(frozen=True)
class Shrink:
    """Removes what costs least; see `choose`. Removals that cost nothing are equals in the race.

    Attributes:
      config: the network.
      most: how many edits at most.
      excess: milliseconds that the network is above the objective.
    """

    sign: ClassVar[float] = 1.0
    floor: ClassVar[float] = 0.0

    config: UNetConfig
    most: int
    excess: float

    def hopeless(self, action: Action, better: Sequence[Action]) -> bool:
        """See `Goal`.

        An edit all of whose stages this one changes, too, excludes it, or is excluded by one that
        does. And one is chosen at least of every level on which there is a better one.
        """
        own = stages_of(self.config, action)
        if any(stages_of(self.config, other) <= own for other in better):
            return True
        return len({level_of(self.config, other) for other in better}) >= self.most

    def choose(self, ranked: Sequence[Scored]) -> list[Scored]:
        """See `Goal`."""
        return choose(self.config, ranked, most=self.most, excess=self.excess)


@dataclasses.dataclass(frozen=True)
class Grow:
    """Copies what is worth most, of what fits; see `choose_copy`.

    Attributes:
      config: the network.
      fits: whether a network meets the objective.
    """

    sign: ClassVar[float] = -1.0
    floor: ClassVar[float] = -math.inf
    most: ClassVar[int] = 1

    config: UNetConfig
    fits: Callable[[UNetConfig], bool]

    def hopeless(self, action: Action, better: Sequence[Action]) -> bool:
        """See `Goal`."""
        return action not in self._fitting or not self._fitting.isdisjoint(better)

    def choose(self, ranked: Sequence[Scored]) -> list[Scored]:
        """See `Goal`."""
        copy = choose_copy(self.config, ranked, fits=self.fits)
        return [] if copy is None else [copy]

    @functools.cached_property
    def _fitting(self) -> frozenset[Action]:
        """The removals of blocks whose copies fit."""
        return frozenset(
            action
            for action in possible(self.config, verbs=(REMOVE,))
            if self.fits(apply(self.config, copy_of(action)).config)
        )
