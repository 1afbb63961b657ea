"""Trainings short enough for two cores."""

from tfsnap.training.config import TrainingConfig


def short(
    training: TrainingConfig,
    *,
    init: str,
    steps: int,
    batch_size: int = 64,
    checkpoint_every: int = 100,
    learning_rate: float = 3e-4,
    warmup_steps: int | None = None,
    ema_decay: float = 0.99,
) -> TrainingConfig:
    """A training on from the weights of a file.

    Args:
      training: what is kept of it is what is not named here.
      init: the weights.
      steps: how many.
      batch_size: of examples.
      checkpoint_every: steps between checkpoints, and twice those between lines of progress.
      learning_rate: at most.
      warmup_steps: until then; by default a tenth of all.
      ema_decay: of the weights' average.
    """
    optimizer = training.optimizer.replace(
        learning_rate=learning_rate,
        warmup_steps=steps // 10 if warmup_steps is None else warmup_steps,
        ema_decay=ema_decay,
    )
    return training.replace(
        init=init,
        steps=steps,
        batch_size=batch_size,
        log_every=checkpoint_every // 2,
        checkpoint_every=checkpoint_every,
        preview_every=0,
        optimizer=optimizer,
    )
