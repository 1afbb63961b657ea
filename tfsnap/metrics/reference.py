"""What real pictures look like to a network: computed once, kept in a file."""

import dataclasses
import os
import pathlib
import tempfile
import zipfile

import numpy as np

from tfsnap.metrics.distances import Moments
from tfsnap.metrics.features import INCEPTION, FeatureSpace
from tfsnap.models.inception import WIDTH


@dataclasses.dataclass(frozen=True)
class Reference:
    """Features of real pictures.

    Attributes:
      moments: their mean and covariance, all that a Frechet distance needs.
      features: float32 [N, D], for KID and CMMD; None where a file has the moments alone.
      space: the name of a `FeatureSpace`; None in a file of pytorch-fid, which is Inception's.
      side: of the square pictures, in pixels; None where a file does not tell.
    """

    moments: Moments
    features: np.ndarray | None = None
    space: str | None = None
    side: int | None = None

    @classmethod
    def of(cls, features: np.ndarray, *, space: FeatureSpace, side: int) -> "Reference":
        """Of features of pictures of a size.

        Raises:
          ValueError: there are fewer than two.
        """
        return cls(Moments.of(features), features.astype(np.float32), space.name, side)

    @property
    def width(self) -> int:
        """Of a feature."""
        return len(self.moments.mean)

    @property
    def is_inception(self) -> bool:
        """Whether Inception made it."""
        return self.space is None or self.space.startswith(f"{INCEPTION}:")

    def check(self, space: FeatureSpace, *, side: int, source: object) -> None:
        """Raises where features of a space, of pictures of a size, cannot be compared with it.

        Raises:
          ValueError: says what differs.
        """
        if self.width != space.width:
            raise ValueError(
                f"{source} has features {self.width} wide; those of {space.name} are {space.width}"
            )
        if self.space not in (None, space.name):
            raise ValueError(
                f"{source} was made with {self.space}, not with {space.name}: other weights"
            )
        if self.side not in (None, side):
            raise ValueError(
                f"{source} is of pictures of {self.side} x {self.side} pixels, not {side} x {side}"
            )


def save_reference(path: str | os.PathLike, reference: Reference) -> None:
    """Writes an .npz that pytorch-fid reads as well; an existing one is replaced at the end.

    Args:
      path: the file.
      reference: features of known space and size.
    """
    path = pathlib.Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    arrays = {
        "mu": reference.moments.mean,
        "sigma": reference.moments.covariance,
        "count": np.array(reference.moments.count),
        "space": np.array(reference.space),
        "side": np.array(reference.side),
    }
    if reference.features is not None:
        arrays["features"] = reference.features
    save_arrays(path, arrays)


def save_arrays(path: pathlib.Path, arrays: dict[str, np.ndarray]) -> None:
    """Writes an .npz, complete or not at all."""
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "wb") as file:
            np.savez(file, **arrays)
        os.chmod(temporary, 0o644)
        os.replace(temporary, path)
    except BaseException:
        os.unlink(temporary)
        raise


def load_arrays(path: pathlib.Path) -> dict[str, np.ndarray]:
    """Reads an .npz without pickles.

    Raises:
      ValueError: it is damaged, is no .npz, or holds Python objects.
      FileNotFoundError: there is none.
    """
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such file of statistics")
    if not zipfile.is_zipfile(path):
        raise ValueError(f"{path} is no complete .npz file ({path.stat().st_size} bytes)")
    try:
        with np.load(path, allow_pickle=False) as file:
            return {name: file[name] for name in file.files}
    except (EOFError, OSError, ValueError, zipfile.BadZipFile) as error:
        if "allow_pickle" in str(error):
            raise ValueError(
                f"{path} holds pickled Python objects, which could run code; it is refused: write "
                "mu and sigma as arrays of numbers"
            ) from error
        raise ValueError(f"{path} is no complete .npz file ({error})") from error


def load_reference(path: str | os.PathLike) -> Reference:
    """Reads a file of `save_reference`, or one of pytorch-fid, which has mu and sigma.

    Raises:
      ValueError: the file is damaged, lacks mu or sigma, or they do not fit each other.
      FileNotFoundError: there is none.
    """
    path = pathlib.Path(path)
    arrays = load_arrays(path)
    if not {"mu", "sigma"} <= arrays.keys():
        raise ValueError(f"{path} holds {sorted(arrays)}; statistics have mu and sigma")
    mean, covariance = (arrays[name].astype(np.float64) for name in ("mu", "sigma"))
    features, space = arrays.get("features"), str(arrays["space"]) if "space" in arrays else None
    _check_shapes(path, mean, covariance, features)
    if space is None and len(mean) != WIDTH:
        raise ValueError(
            f"{path} has features {len(mean)} wide and does not say of which network; Inception's "
            f"are {WIDTH}"
        )
    count, side = (int(arrays[name]) if name in arrays else None for name in ("count", "side"))
    return Reference(Moments(mean, covariance, count), features, space, side)


def _check_shapes(
    path: pathlib.Path, mean: np.ndarray, covariance: np.ndarray, features: np.ndarray | None
) -> None:
    width = mean.shape[0] if mean.ndim == 1 else None
    fits = features is None or (features.ndim == 2 and features.shape[1] == width)
    if width is None or covariance.shape != (width, width) or not fits:
        shapes = {"mu": mean.shape, "sigma": covariance.shape}
        shapes |= {} if features is None else {"features": features.shape}
        raise ValueError(f"{path}: the shapes {shapes} do not fit each other")
    if not np.isfinite(mean).all() or not np.isfinite(covariance).all():
        raise ValueError(f"{path}: mu or sigma is not finite")
