"""Everything that generated pictures are measured with."""

import dataclasses
from collections.abc import Callable, Mapping, Sequence

import numpy as np

from tfsnap.metrics.features import FeatureSpace, clip_space
from tfsnap.metrics.framing import squares
from tfsnap.metrics.quality import (
    Agreement,
    Difference,
    Distances,
    agree,
    differ,
    distances,
    floor,
)
from tfsnap.metrics.reference import Reference
from tfsnap.metrics.retrieval import embed_captions
from tfsnap.models.clip import Clip


@dataclasses.dataclass(frozen=True)
class Floor:
    """Real pictures against real ones.

    Attributes:
      distances: between them.
      count: how many were compared with the reference, or with its other half.
    """

    distances: Distances
    count: int


@dataclasses.dataclass(frozen=True)
class Captions:
    """What the pictures are to show, in CLIP's space.

    Attributes:
      space: CLIP's.
      candidates: unit vectors of distinct captions, float32 [M, E].
      targets: for each picture the row of its own caption.
    """

    space: FeatureSpace
    candidates: np.ndarray
    targets: tuple[int, ...]

    @classmethod
    def of(
        cls,
        clip: Clip,
        tokenize: Callable[[list[str]], np.ndarray],
        *,
        captions: Sequence[str],
        others: Sequence[str] = (),
    ) -> "Captions":
        """Embeds captions.

        Args:
          clip: the network.
          tokenize: turns texts into int32 tokens [M, T].
          captions: one of each picture.
          others: what else there is to choose from; repetitions count once.
        """
        rows = {text: row for row, text in enumerate(dict.fromkeys([*captions, *others]))}
        vectors = embed_captions(clip, tokenize(list(rows)))
        return cls(clip_space(clip), vectors, tuple(rows[caption] for caption in captions))


class Judge:
    """Measures pictures by their captions and by their distance from real ones.

    Args:
      captions: what the pictures are to show.
      references: real pictures, by name.
      side: of the pictures that are compared, in pixels.
      inception: Inception's space, where a reference needs it.
      resamples: bootstraps.

    Attributes:
      side: see above.
      names: of the spaces whose features are needed.

    Raises:
      ValueError: a reference was made with other weights or other pictures.
    """

    def __init__(
        self,
        captions: Captions,
        references: Mapping[str, Reference],
        *,
        side: int,
        inception: FeatureSpace | None = None,
        resamples: int,
    ):
        self._captions = captions
        self._references = dict(references)
        self.side = side
        self._inception = inception
        self._resamples = resamples
        used = [captions.space, *(self._space(name) for name in references)]
        self._spaces = {space.name: space for space in used}
        self.names = list(self._spaces)
        for name, reference in references.items():
            reference.check(self._space(name), side=side, source=name)

    def _space(self, name: str) -> FeatureSpace:
        if not self._references[name].is_inception:
            return self._captions.space
        if self._inception is None:
            raise ValueError(f"{name} is of Inception's features: give its weights (--inception)")
        return self._inception

    def features(self, images: np.ndarray) -> dict[str, np.ndarray]:
        """Features of uint8 pictures [N, H, W, 3], float32 [N, width], by the name of the space."""
        framed = squares(images, self.side)
        return {name: space.embed(framed) for name, space in self._spaces.items()}

    def __call__(
        self, features: Mapping[str, np.ndarray]
    ) -> tuple[Agreement, dict[str, Distances]]:
        """Measures pictures by their features, which are named as their spaces."""
        agreement = agree(
            images=features[self._captions.space.name],
            candidates=self._captions.candidates,
            targets=self._captions.targets,
            resamples=self._resamples,
        )
        found = {
            name: distances(features[self._space(name).name], reference, resamples=self._resamples)
            for name, reference in self._references.items()
        }
        return agreement, found

    def difference(
        self,
        features: Mapping[str, np.ndarray],
        others: Mapping[str, np.ndarray],
        *,
        baseline: str,
    ) -> Difference:
        """Compares pictures with the baseline's of the same captions by the features of both."""
        name = self._captions.space.name
        return differ(
            images=features[name],
            others=others[name],
            baseline=baseline,
            candidates=self._captions.candidates,
            targets=self._captions.targets,
            resamples=self._resamples,
        )

    def floors(self, others: Mapping[str, Reference], *, count: int) -> dict[str, Floor]:
        """What real pictures reach, for every reference that has features.

        Args:
          others: further real pictures, by the name of the reference that they are compared with;
            without them, the halves of a reference are compared with each other.
          count: how many are generated.

        Raises:
          ValueError: they belong to no reference, or cannot be compared with it.
        """
        strangers = sorted(others.keys() - self._references.keys())
        if strangers:
            raise ValueError(f"the floor {strangers[0]!r} belongs to no reference of that name")
        for name, other in others.items():
            other.check(self._space(name), side=self.side, source=f"the floor of {name}")
        return {
            name: Floor(*floor(reference, others.get(name), count=count, resamples=self._resamples))
            for name, reference in self._references.items()
            if reference.features is not None
        }
