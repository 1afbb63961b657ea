"""Pictures of several networks, step counts and guidance scales; a sweep that is killed goes on."""

import dataclasses
import glob
import hashlib
import json
import pathlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from tfsnap.config import Config, differences, write_json
from tfsnap.lock import locked
from tfsnap.metrics.judge import Judge
from tfsnap.metrics.prompts import Prompt
from tfsnap.metrics.quality import Agreement, Difference, Distances
from tfsnap.metrics.reference import load_arrays, save_arrays

_STATE, _POINTS, _LOCK = "sweep.json", "points", ".lock"
_CHUNK = 32  # Pictures that are generated before their features are kept: what a kill may cost.


def shared_name(network: str) -> str:
    """NAME of NAME@0, NAME@1: what the trainings of one network have in common."""
    return network.partition("@")[0]


@dataclasses.dataclass(frozen=True)
class Point(Config):
    """What pictures are generated with.

    Attributes:
      network: its name in the plot; NAME@0, NAME@1 and so on are trainings of one.
      steps: of the sampler.
      guidance: the guidance scale, chosen or baked in.
    """

    network: str
    steps: int
    guidance: float

    @property
    def shared(self) -> "Point":
        """That of all trainings of the network."""
        return dataclasses.replace(self, network=shared_name(self.network))

    @property
    def training(self) -> str:
        """Which of the trainings it is; empty where the name says nothing of it."""
        return self.network.partition("@")[2]

    def is_of(self, network: str) -> bool:
        """Whether it is a network's, or one of its trainings'."""
        return network in (self.network, shared_name(self.network))

    @property
    def slug(self) -> str:
        """The name of its folder."""
        return f"{self.network}-steps{self.steps}-guidance{self.guidance:g}"


@dataclasses.dataclass(frozen=True)
class Result:
    """What was measured at a point.

    Attributes:
      point: where.
      count: number of pictures.
      agreement: with their captions.
      distances: from the pictures of each reference, by its name.
      difference: from another point, picture by picture.
    """

    point: Point
    count: int
    agreement: Agreement
    distances: Mapping[str, Distances]
    difference: Difference | None = None

    def to_dict(self) -> dict[str, Any]:
        """As JSON types."""
        return dataclasses.asdict(self)

    def __str__(self) -> str:
        p = self.point
        lines = [f"{p.network}, {p.steps} steps, guidance {p.guidance:g}: {self.agreement}"]
        return "; ".join([*lines, *(f"{name}: {d}" for name, d in self.distances.items())])


class Sweep:
    """Features of generated pictures, in a folder.

    Args:
      folder: of this sweep alone.
      prompts: what is generated at every point.
      judge: what the pictures are measured with.

    Raises:
      ValueError: the folder holds a sweep of other prompts, or for another judge.
    """

    def __init__(self, folder: pathlib.Path, prompts: Sequence[Prompt], judge: Judge):
        self._folder = folder
        self._prompts = prompts
        self._judge = judge
        settings = {
            "count": len(prompts),
            "prompts": _digest(prompts),
            "side": judge.side,
            "spaces": judge.names,
        }
        with locked(folder / _LOCK):
            if (folder / _STATE).is_file():
                self._require_equal(_read(folder / _STATE)["settings"], settings)
            else:
                write_json(folder / _STATE, {"settings": settings, "networks": {}})

    def claim(self, network: str, identity: str) -> None:
        """Notes what a name stands for; new names may be added to a sweep, by several processes.

        A name that nothing was measured of may stand for another network from now on.

        Raises:
          ValueError: it stood for another network, or nobody knows for which.
        """
        with locked(self._folder / _LOCK):
            state = _read(self._folder / _STATE)
            known = state["networks"]
            points = self._folder / _POINTS
            measured = any(points.glob(f"{glob.escape(network)}-steps*/*"))
            if measured and network not in known:
                raise ValueError(
                    f"{self._folder / _STATE} does not say which network the points of {network} "
                    f"are of: choose another name, or delete {points / network}-steps*"
                )
            if measured:
                self._require_equal({network: known[network]}, {network: identity})
            known[network] = identity
            write_json(self._folder / _STATE, state)

    def measure(self, point: Point, make: Callable[[Sequence[Prompt]], np.ndarray]) -> Result:
        """Generates what is missing of a point's pictures, and measures all.

        Args:
          point: what they are generated with.
          make: generates pictures, uint8 [n, H, W, 3], of some of the prompts.
        """
        for path, wanted in self._chunks(point):
            if not path.is_file():
                path.parent.mkdir(parents=True, exist_ok=True)
                save_arrays(path, self._judge.features(make(wanted)))
        return Result(point, len(self._prompts), *self._judge(self._features(point)))

    def difference(self, point: Point, baseline: Point) -> Difference:
        """Compares two points that are measured, picture by picture."""
        features, others = self._features(point), self._features(baseline)
        name = f"{baseline.network}, {baseline.steps} steps"
        return self._judge.difference(features, others, baseline=name)

    def _chunks(self, point: Point) -> Iterator[tuple[pathlib.Path, Sequence[Prompt]]]:
        """The files of a point's features and their prompts."""
        folder = self._folder / _POINTS / point.slug
        for start in range(0, len(self._prompts), _CHUNK):
            yield folder / f"{start:06d}.npz", self._prompts[start : start + _CHUNK]

    def _features(self, point: Point) -> dict[str, np.ndarray]:
        """Features of all pictures of a point that is measured, by their space."""
        names = self._judge.names
        parts = [_checked(path, names, len(wanted)) for path, wanted in self._chunks(point)]
        return {name: np.concatenate([part[name] for part in parts]) for name in names}

    def _require_equal(self, old: Mapping[str, Any], new: Mapping[str, Any]) -> None:
        changed = differences(dict(old), dict(new))
        if changed:
            raise ValueError(
                f"{self._folder} was begun with other settings: {'; '.join(changed)}. Choose "
                "another --output, or the same settings (for another network, another name)"
            )


def _digest(prompts: Sequence[Prompt]) -> str:
    return hashlib.sha256(json.dumps([tuple(p) for p in prompts]).encode()).hexdigest()[:12]


def _read(path: pathlib.Path) -> dict[str, Any]:
    try:
        state = json.loads(path.read_text())
        return {"settings": dict(state["settings"]), "networks": dict(state["networks"])}
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{path} is damaged ({error!r}): choose another --output") from error


def _checked(path: pathlib.Path, names: Sequence[str], count: int) -> dict[str, np.ndarray]:
    found = load_arrays(path)
    if set(found) != set(names) or any(len(found[name]) != count for name in names):
        raise ValueError(f"{path} holds other features than were asked for: delete it")
    return found
