"""Which edits to make: the least CLIP for the most latency."""

import dataclasses
import math
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np

from tfsnap.config import UNetConfig
from tfsnap.evolve.actions import ADD, ATTENTION, RESNET, Action, apply
from tfsnap.metrics.standard_error import standard_error


@dataclasses.dataclass(frozen=True)
class Scored:
    """An edit and what it costs.

    Attributes:
      action: the edit.
      dclip: by how much the CLIP score falls, the mean over the prompts; infinite if a score was
        not finite: such an edit is never made.
      error: the standard error of that mean, of paired differences.
      dlatency: by how much the latency falls, milliseconds.
      count: number of prompts that it was scored with; fewer if it fell out of the race.
      chosen: whether the edit is made.
    """

    action: Action
    dclip: float
    error: float
    dlatency: float
    count: int
    chosen: bool = False

    @property
    def score(self) -> float:
        """dCLIP / dLatency (SnapFusion, section 3.1)."""
        return self.dclip / self.dlatency

    @property
    def cost(self) -> float:
        """The score, or 0 where the CLIP score does not fall: the lowest goes first.

        The paper says nothing of a negative dCLIP. Divided by dLatency it would put first what
        saves least.
        """
        return max(self.score, 0.0)

    def to_dict(self) -> dict[str, Any]:
        """As JSON types."""
        return {**dataclasses.asdict(self), "score": self.score}

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> "Scored":
        """From the output of `to_dict`."""
        fields = {field.name: values[field.name] for field in dataclasses.fields(cls)}
        return cls(**{**fields, "action": Action(**values["action"])})


def scored(action: Action, drops: np.ndarray, dlatency: float) -> Scored:
    """Summarises the drops of the CLIP score, float [N], that an edit caused."""
    if not np.isfinite(drops).all():
        return Scored(action, math.inf, math.inf, dlatency, len(drops))
    return Scored(action, float(drops.mean()), standard_error(drops), dlatency, len(drops))


def in_order(items: Iterable[Scored], *, sign: float = 1.0) -> list[Scored]:
    """Edits from the lowest cost to the highest, or the other way round.

    Of those that cost the same, and of all that cost nothing, the one that saves most comes first.
    Those come before all others that stayed in the race: what fell out was scored with fewer
    prompts, which may be easier ones, so that its figures do not compare with those of the others.

    Args:
      items: the edits.
      sign: -1 for the highest first.
    """
    return sorted(items, key=lambda item: (-item.count, sign * item.cost, -item.dlatency))


def choose(
    config: UNetConfig, ranked: Sequence[Scored], *, most: int, excess: float
) -> list[Scored]:
    """Picks the edits of a round, best first.

    Only one edit of a stage and its counterpart is picked, so that the numbers of blocks that the
    others name stay what they are, and no more than the latency objective needs.

    Args:
      config: the network.
      ranked: its edits.
      most: how many at most.
      excess: milliseconds that the network is above the objective.
    """
    chosen: list[Scored] = []
    touched: set[str] = set()
    for item in in_order(ranked):
        if len(chosen) == most or sum(c.dlatency for c in chosen) >= excess:
            break
        stages = stages_of(config, item.action)
        if math.isfinite(item.score) and not touched & stages:
            chosen.append(dataclasses.replace(item, chosen=True))
            touched |= stages
    return chosen


def stages_of(config: UNetConfig, action: Action) -> set[str]:
    """The stages that an edit changes."""
    other = config.counterpart(action.stage, action.resnet) if action.block == RESNET else None
    return {action.stage, other[0]} if other else {action.stage}


def level_of(config: UNetConfig, action: Action) -> str:
    """The stage of the way down that an edit is in, or across from; or "mid"."""
    way, _, number = action.stage.partition(".")
    return f"down.{len(config.down) - 1 - int(number)}" if way == "up" else action.stage


def copy_of(action: Action) -> Action:
    """The edit that adds a copy of the block that another edit removes, right after it."""
    if action.block == ATTENTION:
        return dataclasses.replace(action, verb=ADD, attention=action.attention + 1)
    return dataclasses.replace(action, verb=ADD)


def choose_copy(
    config: UNetConfig, ranked: Sequence[Scored], *, fits: Callable[[UNetConfig], bool]
) -> Scored | None:
    """Picks a block to add once the objective is met: a copy of the one that is worth most.

    Args:
      config: the network.
      ranked: the removals of its blocks.
      fits: whether a network meets the objective.

    Returns:
      The addition, with the figures of the block that it copies; None if none fits.

    Reference: SnapFusion, Algorithm 1: the highest dCLIP / dLatency is copied.
    """
    for item in in_order(ranked, sign=-1.0):
        action = copy_of(item.action)
        if 0 < item.dclip < math.inf and fits(apply(config, action).config):
            return dataclasses.replace(item, action=action, chosen=True)
    return None
