"""Where a search is, and what its rounds found, on disk."""

import dataclasses
import json
import pathlib
from typing import Any

from tfsnap.config import UNetConfig, write_json
from tfsnap.evolve.ranking import Scored

STATE = "state.json"  # In the folder of a search.


@dataclasses.dataclass(frozen=True)
class Round:
    """What a round found.

    Attributes:
      number: from 0.
      latency: of the network before, milliseconds.
      clip: its mean CLIP score after robust training.
      error: the standard error of that mean.
      scores: of all edits; those that are made are marked.
      evaluations: of the UNet, of one picture each, that scoring took.
      seconds: that scoring took, the sum over the devices.
    """

    number: int
    latency: float
    clip: float
    error: float
    scores: tuple[Scored, ...]
    evaluations: int = 0
    seconds: float = 0.0

    @property
    def actions(self) -> list[Scored]:
        """The edits that are made, in their order."""
        return [item for item in self.scores if item.chosen]

    def to_dict(self) -> dict[str, Any]:
        """As JSON types."""
        return {**dataclasses.asdict(self), "scores": [item.to_dict() for item in self.scores]}

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> "Round":
        """From the output of `to_dict`."""
        return cls(**{**values, "scores": tuple(map(Scored.from_dict, values["scores"]))})


@dataclasses.dataclass(frozen=True)
class State:
    """Where the search is: the network that the next round starts with.

    Attributes:
      config: its shape.
      weights: its weight file.
      rounds: what those so far found.
    """

    config: UNetConfig
    weights: str
    rounds: tuple[Round, ...] = ()

    def save(self, path: pathlib.Path) -> None:
        """Writes it as JSON, complete or not at all; files beside it by their place from there."""
        weights = pathlib.Path(self.weights)
        if weights.is_relative_to(path.parent):  # The folder may be moved, or named otherwise.
            weights = weights.relative_to(path.parent)
        values = {
            "config": self.config.to_dict(),
            "weights": str(weights),
            "rounds": [item.to_dict() for item in self.rounds],
        }
        write_json(path, values)

    @classmethod
    def load(cls, path: pathlib.Path) -> "State":
        """Reads what `save` wrote."""
        values = json.loads(path.read_text())
        config = UNetConfig.from_dict(values["config"])
        beside = path.parent / values["weights"]
        # Else it is as it was typed: that of the start, or of a search that kept all of them so.
        weights = str(beside) if beside.is_file() else values["weights"]
        return cls(config, weights, tuple(map(Round.from_dict, values["rounds"])))
