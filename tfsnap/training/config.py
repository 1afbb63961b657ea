"""How to train, apart from what."""

import dataclasses
import math

from tfsnap.config import Config

PRECISIONS = ("float32", "bfloat16", "float16")

# Fields of training that another value may be given for when a run goes on.
MAY_CHANGE = (
    "steps",
    "log_every",
    "preview_every",
    "checkpoint_every",
    "keep_checkpoints",
    "keep_every",
    "asynchronous_checkpoints",
)


@dataclasses.dataclass(frozen=True)
class OptimizerConfig(Config):
    """AdamW with a warm-up and a cosine decay.

    Attributes:
      learning_rate: peak learning rate.
      warmup_steps: steps over which it rises linearly from 0.
      final_fraction: the cosine ends at this share of the peak; 1 keeps it constant.
      weight_decay: decoupled decay per step, over the learning rate; kernels and token embeddings
        only, never biases, norms, positions or the logit scale.
      clip_norm: gradients are scaled down to this global norm.
      beta_1: decay of the first moment.
      beta_2: decay of the second moment.
      ema_decay: decay of the averaged weights, which are what is saved for use.

    Reference: Loshchilov & Hutter 2019 (arXiv 1711.05101).
    """

    learning_rate: float = 1e-4
    warmup_steps: int = 100
    final_fraction: float = 0.05
    weight_decay: float = 0.01
    clip_norm: float = 1.0
    beta_1: float = 0.9
    beta_2: float = 0.99
    ema_decay: float = 0.999

    def __post_init__(self) -> None:
        self._require(self.learning_rate > 0, "learning_rate", "positive")
        self._require(self.warmup_steps >= 0, "warmup_steps", "0 or more")
        self._require(0 <= self.final_fraction <= 1, "final_fraction", "between 0 and 1")
        self._require(self.weight_decay >= 0, "weight_decay", "0 or more")
        # Keras multiplies by the norm: of an infinite one every gradient becomes NaN.
        self._require(0 < self.clip_norm < math.inf, "clip_norm", "positive and finite")
        for field in ("beta_1", "beta_2"):
            self._require(0 <= getattr(self, field) < 1, field, "in [0, 1)")
        self._require(0 <= self.ema_decay < 1, "ema_decay", "in [0, 1)")


@dataclasses.dataclass(frozen=True)
class TrainingConfig(Config):
    """Length, batch and bookkeeping of a run.

    Attributes:
      steps: optimizer steps in all.
      batch_size: examples per step over all replicas.
      init: weight file of the same network to start from, for fine-tuning; none for random weights.
        A UNet that reads the guidance scale may start from one that does not.
      seed: seeds weights, data order and every draw.
      optimizer: the optimizer.
      precision: what networks compute in: "float32", "bfloat16", or "float16" with a loss scale
        that adapts; weights, norms, sums over the batch and the optimizer stay float32.
      jit_compile: compile the gradients with XLA: slower to start, faster to run.
      accumulate: micro-batches that a replica takes one after another for one update: the memory of
        a part of the batch, the update of the whole.
      rematerialize: layers whose activations are computed again on the way back instead of being
        kept: names or patterns, such as "down.0" or "up.*".
      steps_per_call: steps that run before Python is asked again; divides all the numbers of steps.
      max_loss_growth: a loss this many times its running level counts as exploded.
      log_every: steps between lines of progress and TensorBoard points.
      preview_every: steps between sample pictures; 0 draws them only at the end.
      checkpoint_every: steps between checkpoints.
      keep_checkpoints: how many of the newest checkpoints stay.
      keep_every: checkpoints of multiples of this step stay for good; 0 for none.
      asynchronous_checkpoints: write them while training goes on, for the memory of one more copy
        of the state.
    """

    steps: int = 1000
    batch_size: int = 64
    init: str = ""
    seed: int = 0
    optimizer: OptimizerConfig = OptimizerConfig()
    precision: str = "float32"
    jit_compile: bool = False
    accumulate: int = 1
    rematerialize: tuple[str, ...] = ()
    steps_per_call: int = 1
    max_loss_growth: float = 100.0
    log_every: int = 20
    preview_every: int = 0
    checkpoint_every: int = 200
    keep_checkpoints: int = 2
    keep_every: int = 0
    asynchronous_checkpoints: bool = False

    def __post_init__(self) -> None:
        whole = ("batch_size", "accumulate", "steps_per_call", "keep_checkpoints")
        numbers = ("steps", "log_every", "checkpoint_every")
        for field in (*whole, *numbers):
            self._require(getattr(self, field) >= 1, field, "at least 1")
        for field in ("preview_every", "keep_every"):
            self._require(getattr(self, field) >= 0, field, "0 or more")
        for field in (*numbers, "preview_every"):
            divides = getattr(self, field) % self.steps_per_call == 0
            self._require(divides, field, f"a multiple of steps_per_call={self.steps_per_call}")
        self._require(self.precision in PRECISIONS, "precision", f"one of {', '.join(PRECISIONS)}")
        self._require(0 <= self.seed < 2**31, "seed", "at least 0 and below 2^31")
        self._require(self.max_loss_growth > 1, "max_loss_growth", "above 1")
