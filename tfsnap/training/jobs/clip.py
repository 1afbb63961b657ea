"""Training CLIP on captioned pictures."""

import dataclasses
from typing import Any, ClassVar

import numpy as np
import tensorflow as tf
import tf_keras as keras

from tfsnap.config import ClipConfig, Config
from tfsnap.data.source import BatchSource
from tfsnap.models.clip import Clip, build_clip
from tfsnap.objectives.contrastive import Contrastive
from tfsnap.training.config import TrainingConfig
from tfsnap.training.jobs.inputs import Captioned, DataConfig, captioned, read_captions
from tfsnap.weights.archive import describe


@dataclasses.dataclass(frozen=True)
class ClipJob(Config):
    """Trains both towers; the text tower then conditions the UNet.

    Attributes:
      model: the network; its image resolution must be the data's.
      data: captioned pictures.
      training: length, batch and optimizer.
      dropout: share of examples whose caption is empty, so that the text tower knows the empty
        prompt that guidance uses.
      label_smoothing: see `Contrastive`.
    """

    label: ClassVar[str] = "CLIP"

    model: ClipConfig = ClipConfig()
    data: DataConfig = DataConfig()
    training: TrainingConfig = TrainingConfig()
    dropout: float = 0.0
    label_smoothing: float = 0.0

    def __post_init__(self) -> None:
        if self.model.image.resolution != self.data.resolution:
            raise ValueError(
                f"model.image.resolution is {self.model.image.resolution} and data.resolution is "
                f"{self.data.resolution}; they must be equal"
            )

    def build(self) -> tuple[keras.Model, Contrastive]:
        """See `Job`."""
        return build_clip(self.model), Contrastive(self.label_smoothing)

    def batches(self, start_step: int, *, part: tuple[int, int] = (0, 1)) -> tf.data.Dataset:
        """See `Job`."""
        return self.source().batches(start_step, part=part)

    def source(self) -> BatchSource:
        """The training examples and how they are drawn."""
        train = self._captioned("train")
        return BatchSource(
            tables={"image": train.examples.images, "tokens": train.tokens},
            index=self.data.index(train.examples, self.training.seed),
            batch_size=self.training.batch_size,
            seed=self.training.seed,
            variants=("tokens",),
            null_rows={"tokens": train.null_tokens},
            dropout=self.dropout,
            pictures=("image",),
            augment=self.data.augment,
        )

    def captions(self, step: int) -> list[str]:
        """See `Job`."""
        return read_captions(self.source().at(step)["tokens"], self._captioned("train").tokenizer)

    def previews(self, model: Clip) -> dict[str, np.ndarray]:
        """CLIP draws nothing."""
        return {}

    def describe(self, model: Clip) -> dict[str, Any]:
        """See `Job`."""
        return describe(model)

    def _captioned(self, split: str) -> Captioned:
        return captioned(self.data, split, self.model.text)
