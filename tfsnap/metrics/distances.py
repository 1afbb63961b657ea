"""How far two sets of pictures are apart, in the space of a network's features."""

import dataclasses
import functools

import numpy as np

_CMMD_WIDTH = 10.0  # Of the Gaussian kernel, and the factor that the distance is quoted with.
_CMMD_SCALE = 1000.0
_BLOCK = 1024  # Rows of a kernel matrix that are held at a time.


@dataclasses.dataclass(frozen=True)
class Moments:
    """Mean and covariance of features.

    Attributes:
      mean: float64 [D].
      covariance: float64 [D, D], divided by N - 1.
      count: N; None where a file does not tell.
    """

    mean: np.ndarray
    covariance: np.ndarray
    count: int | None

    @classmethod
    def of(cls, features: np.ndarray) -> "Moments":
        """Of float features [N, D].

        Raises:
          ValueError: there are fewer than two.
        """
        if len(features) < 2:
            raise ValueError(f"{len(features)} pictures have no covariance; take at least 2")
        values = features.astype(np.float64)
        covariance = np.atleast_2d(np.cov(values, rowvar=False, ddof=1))
        return cls(values.mean(axis=0), covariance, len(values))

    @functools.cached_property
    def root(self) -> np.ndarray:
        """The square root of the covariance, which costs more than the rest of a distance."""
        values, vectors = np.linalg.eigh(self.covariance)
        return (vectors * np.sqrt(np.maximum(values, 0.0))) @ vectors.T


def frechet_distance(a: Moments, b: Moments) -> float:
    """|m_a - m_b|^2 + tr(C_a + C_b - 2 (C_a C_b)^(1/2)), the squared 2-Wasserstein distance.

    Where one set is compared with many, it should be `a`, whose root is kept.

    Of Inception's pooled features it is the FID. It falls with the number of pictures: compare only
    what was measured with as many.

    Raises:
      ValueError: the two have features of different widths.

    Reference: Heusel et al. 2017 (arXiv 1706.08500), eq. 6.
    """
    if a.mean.shape != b.mean.shape:
        raise ValueError(f"features are {a.mean.shape[0]} and {b.mean.shape[0]} wide")
    # C_a C_b is not symmetric; C_a^(1/2) C_b C_a^(1/2) is, and has the same eigenvalues.
    product = a.root @ b.covariance @ a.root
    eigenvalues = np.linalg.eigvalsh((product + product.T) / 2)
    cross = np.sqrt(np.maximum(eigenvalues, 0.0)).sum()
    apart = np.square(a.mean - b.mean).sum()
    return float(apart + np.trace(a.covariance) + np.trace(b.covariance) - 2 * cross)


def kernel_distance(
    a: np.ndarray, b: np.ndarray, *, subsets: int = 100, size: int = 1000, seed: int = 0
) -> tuple[float, float]:
    """Squared MMD with the kernel (x y / D + 1)^3: of Inception's pooled features, the KID.

    Args:
      a: float features [N, D].
      b: float features [M, D].
      subsets: random subsets that are compared.
      size: pictures in a subset; fewer if there are fewer.
      seed: of the subsets.

    Returns:
      The mean over the subsets, without bias, and its standard deviation.

    Reference: Binkowski et al. 2018 (arXiv 1801.01401), section 4.
    """
    size = min(size, len(a), len(b))
    if size < 2:
        raise ValueError(f"{size} pictures are too few for a kernel distance; take at least 2")
    rng, found = np.random.default_rng(seed), []
    for _ in range(subsets):
        x, y = (v[rng.choice(len(v), size, replace=False)].astype(np.float64) for v in (a, b))
        within = sum(_off_diagonal_mean(_polynomial(v, v)) for v in (x, y))
        found.append(within - 2 * _polynomial(x, y).mean())
    return float(np.mean(found)), float(np.std(found))


def _polynomial(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    return (x @ y.T / x.shape[1] + 1.0) ** 3


def _off_diagonal_mean(matrix: np.ndarray) -> float:
    count = len(matrix)
    return (matrix.sum() - np.trace(matrix)) / (count * (count - 1))


def clip_distance(a: np.ndarray, b: np.ndarray) -> float:
    """1000 times the squared MMD with a Gaussian kernel of width 10: of CLIP's features, the CMMD.

    Args:
      a: float unit vectors [N, D].
      b: float unit vectors [M, D].

    Reference: Jayasumana et al. 2024 (arXiv 2401.09603), eq. 3, as its authors compute it: with the
      diagonal.
    """
    return float(clip_distances(a, b, weights=np.full([1, len(a)], 1 / len(a)))[0])


def clip_distances(a: np.ndarray, b: np.ndarray, *, weights: np.ndarray) -> np.ndarray:
    """`clip_distance` for several weightings of one of the sets, at the cost of one.

    Args:
      a: float unit vectors [N, D].
      b: float unit vectors [M, D].
      weights: float [R, N], the share of each of `a`; rows sum to 1.

    Returns:
      float64 [R].
    """
    x, y = a.astype(np.float64), b.astype(np.float64)
    even = np.full([1, len(y)], 1 / len(y))
    apart = (
        _gaussian_mean(x, x, weights, weights)
        + _gaussian_mean(y, y, even, even)
        - 2 * _gaussian_mean(x, y, weights, even)
    )
    return _CMMD_SCALE * apart


def _gaussian_mean(x: np.ndarray, y: np.ndarray, p: np.ndarray, q: np.ndarray) -> np.ndarray:
    """Row by row of the weights p and q, sum_ij p_i k(x_i, y_j) q_j."""
    total, norms = np.zeros(len(p)), np.square(y).sum(axis=1)
    for start in range(0, len(x), _BLOCK):
        rows = x[start : start + _BLOCK]
        squared = np.square(rows).sum(axis=1)[:, None] + norms - 2 * rows @ y.T
        kernel = np.exp(-squared / (2 * _CMMD_WIDTH**2))  # [rows, M]
        total += (p[:, start : start + _BLOCK] * (q @ kernel.T)).sum(axis=1)
    return total
