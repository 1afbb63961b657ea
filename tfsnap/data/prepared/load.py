"""Reads prepared sets: as `Examples`, in memory or, where they are too large, row by row."""

import collections
import dataclasses
import difflib
import hashlib
import itertools
import json
import os
import pathlib
from collections.abc import Mapping, Sequence

import numpy as np

from tfsnap.data.examples import ALL, Examples, Subset
from tfsnap.data.prepared.build import CAPTIONS, FORMAT, RECIPE, SET, shape_name
from tfsnap.data.prepared.framing import Shape
from tfsnap.data.prepared.growing import IMAGE
from tfsnap.data.prepared.journal import Line
from tfsnap.data.prepared.recipe import Recipe
from tfsnap.data.shards import ShardedTables, ShardError, TableSpec, whole_table
from tfsnap.data.tables import StoredTable

_IN_MEMORY = 2**31  # Bytes of pictures; of more than that only the rows of a batch are read.


def is_prepared(path: str | os.PathLike) -> bool:
    """Whether a folder is a prepared set, finished or begun."""
    return (pathlib.Path(path) / RECIPE).is_file()


class PreparedSet:
    """A folder that `tfsnap.data.prepared.build.prepare_set` made.

    Args:
      folder: the set.
      resolution: what it must have been prepared with; None takes any.

    Attributes:
      recipe: how it was made.
      splits: number of pictures by split and shape.

    Raises:
      ShardError: it is not finished, or damaged.
      ValueError: it has another resolution.

    Example:
      >>> examples = PreparedSet("runs/photos").examples("train", caption_variants=5)
    """

    def __init__(self, folder: str | os.PathLike, *, resolution: int | None = None):
        self._folder = pathlib.Path(folder)
        path = self._folder / SET
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
        except FileNotFoundError as error:
            raise ShardError(
                f"{folder} is not finished: run the tools/prepare_data.py that made it again"
            ) from error
        except ValueError as error:
            raise ShardError(f"{path} is damaged ({error}): prepare the set again") from error
        if {key: content.get(key) for key in FORMAT} != FORMAT:
            raise ShardError(f"{path} is not {FORMAT}: prepare the set again")
        self.recipe = Recipe.from_dict(content["recipe"])
        if resolution not in (None, self.recipe.resolution):
            raise ValueError(
                f"data.resolution is {resolution}, but {folder} was prepared with "
                f"--resolution={self.recipe.resolution}: change one of them"
            )
        self.splits: Mapping[str, Mapping[Shape, int]] = {
            split: {_shape(name): rows for name, rows in shapes.items()}
            for split, shapes in content["splits"].items()
        }
        self._digest = content["sha256"]

    def examples(
        self, split: str, *, caption_variants: int, subset: Subset | None = None
    ) -> Examples:
        """The pictures of a split, all of one shape.

        Args:
          split: "train", "validation", both joined by "+", or "all".
          caption_variants: V. A picture with fewer captions has them repeated; of a picture with
            more, the first V are taken.
          subset: which groups; by default all.

        Raises:
          ValueError: an argument is out of range, or the set has several shapes.
          ShardError: the set is damaged.
        """
        by_shape = self.buckets(split, caption_variants=caption_variants, subset=subset)
        if len(by_shape) > 1:
            raise ValueError(
                f"{self._folder} has pictures of {len(by_shape)} shapes, from --buckets, on which "
                "only the UNet is trained: prepare another set without --buckets"
            )
        return next(iter(by_shape.values()))

    def buckets(
        self, split: str, *, caption_variants: int, subset: Subset | None = None
    ) -> dict[Shape, Examples]:
        """The pictures of a split by their shape, see `tfsnap.data.buckets`.

        The arguments and errors are those of `examples`.
        """
        if caption_variants < 1:
            raise ValueError(f"caption_variants is {caption_variants}; it must be at least 1")
        rows = self._rows(self._wanted(split))
        names = tuple(sorted({row.line.group for part in rows.values() for row in part}))
        kept = _kept(rows, subset or Subset(), names)
        if not kept:
            raise ValueError(f"{self._folder} has no picture in {split!r} of {subset or 'any'}")
        return {
            shape: self._examples(shape, part, names, caption_variants)
            for shape, part in sorted(kept.items())
        }

    def _wanted(self, split: str) -> list[str]:
        if split == ALL:
            return sorted(self.splits)
        for name in split.split("+"):
            if name not in self.splits:
                raise ValueError(
                    f"split is {name!r}; {self._folder} has {', '.join(sorted(self.splits))}"
                )
        return split.split("+")

    def _rows(self, splits: list[str]) -> dict[Shape, list["_Row"]]:
        """Where each picture of the splits lies, in the order of their lines."""
        path, digest = self._folder / CAPTIONS, hashlib.sha256()
        places: collections.Counter = collections.Counter()
        rows: dict[Shape, list[_Row]] = {}
        with open(path, "rb") as file:
            for text in file:
                digest.update(text)
                line = Line.from_json(text.decode("utf-8"))
                if line.split in splits:
                    row = _Row(line, line.split, places[line.split, line.shape])
                    rows.setdefault(line.shape, []).append(row)
                    places[line.split, line.shape] += 1
        if digest.hexdigest() != self._digest:
            raise ShardError(f"{path} was changed after the set was made: prepare the set again")
        return rows

    def _examples(
        self, shape: Shape, rows: list["_Row"], names: tuple[str, ...], variants: int
    ) -> Examples:
        splits = sorted({row.split for row in rows})
        folders = [self._folder / split / shape_name(shape) for split in splits]
        parts = [ShardedTables(folder) for folder in folders]
        starts = dict(zip(splits, itertools.accumulate(map(len, parts), initial=0), strict=False))
        joined = JoinedTables(parts, np.array([starts[row.split] + row.place for row in rows]))
        images = StoredImages(joined, IMAGE)
        numbers = {name: number for number, name in enumerate(names)}
        return Examples(
            images=images.load() if joined.size <= _IN_MEMORY else images,
            captions=tuple(cycled(row.line.captions, variants) for row in rows),
            groups=np.array([numbers[row.line.group] for row in rows], np.int32),
            group_names=names,
            keys=tuple(row.line.name for row in rows),
        )


@dataclasses.dataclass(frozen=True, slots=True)
class _Row:
    """A picture of a set.

    Attributes:
      line: what is known of it.
      split: where it lies.
      place: its row there, among those of its shape.
    """

    line: Line
    split: str
    place: int


class JoinedTables:
    """Some rows of several folders of shards, with the interface of `ShardedTables`.

    Args:
      parts: folders with the same tables.
      rows: int [N], numbers of rows as if the parts followed each other.

    Attributes:
      specs: what the tables are, by name.
    """

    def __init__(self, parts: Sequence[ShardedTables], rows: np.ndarray):
        self._parts = parts
        self._rows = rows
        self._starts = np.cumsum([0, *map(len, parts)])
        self.specs: Mapping[str, TableSpec] = parts[0].specs

    def __len__(self) -> int:
        return len(self._rows)

    @property
    def size(self) -> int:
        """Bytes of all tables."""
        return len(self) * sum(spec.size for spec in self.specs.values())

    def read(self, rows: np.ndarray) -> dict[str, np.ndarray]:
        """See `ShardedTables.read`."""
        places = self._rows[rows]
        owners = np.searchsorted(self._starts, places, side="right") - 1
        tables = {
            name: np.empty((len(places), *spec.shape), spec.numpy)
            for name, spec in self.specs.items()
        }
        for owner in np.unique(owners):
            here = owners == owner
            found = self._parts[owner].read(places[here] - self._starts[owner])
            for name, table in tables.items():
                table[here] = found[name]
        return tables

    def table(self, name: str) -> np.ndarray:
        """See `ShardedTables.table`."""
        return whole_table(self, name)


class StoredImages(StoredTable):
    """A table on disk of which some rows are read as of an array: `images[:16]`."""

    def __getitem__(self, rows: slice | np.ndarray) -> np.ndarray:
        return self.shards.read(np.arange(len(self))[rows])[self.name]


def cycled(captions: tuple[str, ...], count: int) -> tuple[str, ...]:
    """`count` captions: the first ones, or all of them again and again.

    Example:
      >>> cycled(("a", "b"), 5)
      ('a', 'b', 'a', 'b', 'a')
    """
    return tuple(itertools.islice(itertools.cycle(captions), count))


def _kept(
    rows: dict[Shape, list[_Row]], subset: Subset, names: tuple[str, ...]
) -> dict[Shape, list[_Row]]:
    """The rows of a subset's groups."""
    others = [field for field in ("labels", "styles", "tones") if getattr(subset, field)]
    if others:
        raise ValueError(f"subset.{others[0]} is for emoji; a prepared set has groups only")
    if subset.groups is None:
        return rows
    for name in subset.groups:
        if name not in names:
            near = difflib.get_close_matches(name, names, n=3, cutoff=0.4) or names[:5]
            raise ValueError(
                f"No picture has the group {name!r}: there are {', '.join(map(repr, near))}"
            )
    kept = {s: [r for r in part if r.line.group in subset.groups] for s, part in rows.items()}
    return {shape: part for shape, part in kept.items() if part}


def _shape(name: str) -> Shape:
    height, width = name.split("x")
    return int(height), int(width)
