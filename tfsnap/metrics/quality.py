"""How good generated pictures are, each number with how far off it may be."""

import dataclasses
import functools
from collections.abc import Sequence

import numpy as np

from tfsnap.metrics.distances import (
    Moments,
    clip_distance,
    clip_distances,
    frechet_distance,
    kernel_distance,
)
from tfsnap.metrics.features import is_clip
from tfsnap.metrics.reference import Reference
from tfsnap.metrics.retrieval import agreement

RESAMPLES = 100
_SUBSET = 1000  # Of the KID, at most.


@dataclasses.dataclass(frozen=True)
class Estimate:
    """A number and its standard error.

    Attributes:
      value: of the pictures that there are.
      error: of pictures, standard deviation of the value over their bootstraps; of the KID over its
        random subsets, as it is always quoted: of 1,000 pictures, or of half where there are fewer
        than 2,000.
    """

    value: float
    error: float

    def __str__(self) -> str:
        return f"{self.value:.4g} +- {self.error:.1g}"


@dataclasses.dataclass(frozen=True)
class Distances:
    """How far pictures are from real ones in one space of features.

    Attributes:
      frechet: the Frechet distance; of Inception's features, the FID.
      kernel: the KID; None where the reference has no features.
      clip: the CMMD; None where the features are not CLIP's.
      fid: whether the Frechet distance is the FID.
    """

    frechet: Estimate
    kernel: Estimate | None = None
    clip: Estimate | None = None
    fid: bool = False

    def __str__(self) -> str:
        frechet = "FID" if self.fid else "Frechet"
        names = {frechet: self.frechet, "KID": self.kernel, "CMMD": self.clip}
        return ", ".join(f"{name} {found}" for name, found in names.items() if found)


@dataclasses.dataclass(frozen=True)
class Agreement:
    """How well pictures show their captions.

    Attributes:
      clip_score: mean cosine of a picture and its caption.
      top1: share of pictures whose own caption scores highest among all candidates.
      chance: what guessing would reach.
    """

    clip_score: Estimate
    top1: Estimate
    chance: float

    def __str__(self) -> str:
        return f"CLIP score {self.clip_score}, top-1 {self.top1} (chance {self.chance:.2%})"


@dataclasses.dataclass(frozen=True)
class Difference:
    """How much better pictures show their captions than others of the same captions and noise.

    Each picture is compared with its other, so that what both share, such as captions that are hard
    to draw, is in neither error.

    Attributes:
      baseline: whose the others are.
      clip_score: mean difference of the cosines.
      top1: difference of the shares.
    """

    baseline: str
    clip_score: Estimate
    top1: Estimate


def draws(count: int, *, resamples: int, seed: int) -> np.ndarray:
    """How often each of some pictures is in each bootstrap: int [resamples, count]."""
    rng = np.random.default_rng(seed)
    return rng.multinomial(count, np.full(count, 1 / count), size=resamples)


def distances(
    features: np.ndarray, reference: Reference, *, resamples: int = RESAMPLES, seed: int = 0
) -> Distances:
    """Compares pictures with real ones.

    A bootstrap repeats pictures, which alone moves it away from the reference. Its spread is used,
    its mean is not.

    Args:
      features: float [N, D].
      reference: of the same space.
      resamples: bootstraps of the pictures.
      seed: of the bootstraps, and of the KID's subsets.

    Raises:
      ValueError: there are fewer than two pictures, or the widths differ.
    """
    moments = Moments.of(features)
    counts = draws(len(features), resamples=resamples, seed=seed)
    repeated = (Moments.of(np.repeat(features, row, axis=0)) for row in counts)
    found = frechet_distance(reference.moments, moments)
    spread = np.std([frechet_distance(reference.moments, other) for other in repeated])
    if reference.features is None:
        return Distances(Estimate(found, float(spread)), fid=reference.is_inception)
    # Subsets of everything would all be equal, and seem exact.
    half = min(len(features), len(reference.features)) // 2
    size = max(2, min(_SUBSET, half))
    kernel = Estimate(*kernel_distance(features, reference.features, size=size, seed=seed))
    clip = None
    if reference.space is not None and is_clip(reference.space):
        weighted = clip_distances(features, reference.features, weights=counts / len(features))
        clip = Estimate(clip_distance(features, reference.features), float(np.std(weighted)))
    return Distances(Estimate(found, float(spread)), kernel, clip, reference.is_inception)


def floor(
    reference: Reference,
    other: Reference | None = None,
    *,
    count: int,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> tuple[Distances, int]:
    """How far real pictures are from real ones, the size that such a distance has for no reason.

    Halves are of half the pictures, by which their distance is larger: what is generated may have
    less.

    Args:
      reference: real pictures with their features.
      other: others of the same space. Without them `reference` is compared with itself, in two
        random halves.
      count: how many to compare with the reference, as many as are generated; all if there are
        fewer.
      resamples: bootstraps of the pictures.
      seed: of the choice.

    Returns:
      The distances, and how many pictures were compared with the reference, or with the other half.

    Raises:
      ValueError: a reference has no features, or too few.
    """
    for one in (reference, other):
        if one is not None and one.features is None:
            raise ValueError("a floor needs features of real pictures; a file has their mean alone")
    rng = np.random.default_rng(seed)
    if other is not None:
        rows = rng.permutation(len(other.features))[:count]
        found = distances(other.features[rows], reference, resamples=resamples, seed=seed)
        return found, len(rows)
    rows = rng.permutation(len(reference.features))
    half = len(rows) // 2
    if half < 2:
        raise ValueError(
            f"a floor compares two halves of the real pictures; {len(rows)} are too few"
        )
    first, second = (reference.features[part] for part in (rows[:half], rows[half:]))
    against = dataclasses.replace(reference, moments=Moments.of(second), features=second)
    found = distances(first[:count], against, resamples=resamples, seed=seed)
    return found, min(half, count)


def agree(
    *,
    images: np.ndarray,
    candidates: np.ndarray,
    targets: Sequence[int],
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> Agreement:
    """Compares pictures with captions; `images`, `candidates` and `targets` as for `retrieval`."""
    cosines, found = agreement(images=images, candidates=candidates, targets=targets)
    estimate = functools.partial(_mean, resamples=resamples, seed=seed)
    return Agreement(estimate(cosines), estimate(found), 1.0 / len(candidates))


def differ(
    *,
    images: np.ndarray,
    others: np.ndarray,
    baseline: str,
    candidates: np.ndarray,
    targets: Sequence[int],
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> Difference:
    """Compares pictures with others of the same captions, one by one.

    Args:
      images: unit vectors [N, E].
      others: the same of the baseline's pictures, in the same order.
      baseline: its name.
      candidates: as for `retrieval`.
      targets: as for `retrieval`.
      resamples: bootstraps of the pairs.
      seed: of the bootstraps.
    """
    cosines, found = (
        np.subtract(*pair, dtype=np.float64)
        for pair in zip(
            *(
                agreement(images=x, candidates=candidates, targets=targets)
                for x in (images, others)
            ),
            strict=True,
        )
    )
    estimate = functools.partial(_mean, resamples=resamples, seed=seed)
    return Difference(baseline, estimate(cosines), estimate(found))


def _mean(values: np.ndarray, *, resamples: int, seed: int) -> Estimate:
    shares = draws(len(values), resamples=resamples, seed=seed) / len(values)
    values = values.astype(np.float64)
    return Estimate(float(values.mean()), float(np.std(shares @ values)))
