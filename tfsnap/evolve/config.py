"""What a search is told."""

import dataclasses
import math

from tfsnap.config import Config
from tfsnap.training.jobs.unet import UNetJob

# Fields of a search that another value may be given for when it goes on.
MAY_CHANGE = ("rounds", "grow")


@dataclasses.dataclass(frozen=True)
class EvolveConfig(Config):
    """A search for an efficient UNet: SnapFusion's Algorithm 1.

    Attributes:
      unet: weight file of the trained network that the search starts from.
      table: latency table that knows the blocks of that network, see `tools/latency_table.py`.
      robust: the robust training of a round; its `model` and `training.init` are set by the search.
      target: the latency objective S, as a share of the first network's latency in the table.
      rounds: at most so many; a search may go on with more.
      grow: once the objective is met, go on by copying the block that is worth most, as long as the
        objective stays met. A search that met it may go on so.
      actions: edits of a round, at most: those of the lowest dCLIP / dLatency. Edits whose dCLIP is
        not above 0 cost nothing, and go before others, the one that saves most first.
      split: whose captions are the prompts, D_val in the paper.
      prompts: number of prompts, spread evenly over the split and shuffled by `seed`.
      laps: in so many parts the prompts are gone through; after each, edits may fall out.
      confidence: by how many standard errors an edit must be behind to fall out; edits whose
        dCLIP is not above 0 by as many are not behind one another.
      steps: DDIM steps of the pictures that are scored.
      guidance: their guidance scale.
      seed: of their noise and order.
    """

    unet: str = ""
    table: str = ""
    robust: UNetJob = UNetJob(run_probability=0.9)
    target: float = 0.5
    rounds: int = 10
    grow: bool = False
    actions: int = 2
    split: str = "all"
    prompts: int = 128
    laps: int = 4
    confidence: float = 2.0
    steps: int = 10
    guidance: float = 3.0
    seed: int = 0

    def __post_init__(self) -> None:
        self._require(0.0 < self.target < 1.0, "target", "between 0 and 1")
        for field in ("rounds", "actions", "prompts", "laps", "steps"):
            self._require(getattr(self, field) >= 1, field, "at least 1")
        self._require(self.prompts % self.laps == 0, "laps", f"a divisor of prompts={self.prompts}")
        most = self.robust.schedule.steps
        self._require(self.steps <= most, "steps", f"at most {most}, those of robust.schedule")
        self._require(self.confidence > 0, "confidence", "above 0")
        self._require(0.0 <= self.guidance < math.inf, "guidance", "0 or more, and finite")
        # Picture i's noise has the seed 2^32 seed + i, of 64 bits.
        self._require(0 <= self.seed < 2**32, "seed", "at least 0 and below 2^32")
        first = self.robust.training.seed
        last = f"at most {2**31 - first}: round n trains with robust.training.seed={first} + n"
        self._require(first + self.rounds <= 2**31, "rounds", f"{last}, which is below 2^31")
