"""Makes a prepared set of what a reader finds; an interrupted run goes on where it stopped."""

import collections
import concurrent.futures
import contextlib
import dataclasses
import json
import os
import pathlib
import warnings
from collections.abc import Callable, Iterator

from tfsnap.checksum import file_sha256
from tfsnap.config import differences
from tfsnap.data.prepared.framing import Shape
from tfsnap.data.prepared.growing import GrowingShards
from tfsnap.data.prepared.journal import Journal, Line
from tfsnap.data.prepared.recipe import SPLITS, Made, Recipe
from tfsnap.data.prepared.report import Report
from tfsnap.data.readers.entry import Entry, Reader, Skipped
from tfsnap.data.shards import ShardError

SET, CAPTIONS, REPORT, RECIPE = "set.json", "captions.jsonl", "report.json", "recipe.json"
FORMAT = {"format": "tfsnap-pictures", "version": 1}
_AHEAD = 8  # Pictures for each thread that are read or decoded before their turn.

Progress = Callable[[int, int | None], None]


def prepare_set(
    reader: Reader,
    output: str | os.PathLike,
    recipe: Recipe,
    *,
    progress: Progress | None = None,
    threads: int | None = None,
) -> Report:
    """Makes a prepared set, or what is missing or damaged in it.

    Args:
      reader: what to make it of.
      output: its folder.
      recipe: how.
      progress: called with the number of pictures that were looked at and that of all, None where
        it is not known.
      threads: that decode; by default one for each core. The set does not depend on it.

    Returns:
      What was used and what was skipped.

    Raises:
      ShardError: the folder holds something else, or the pictures have changed since it was begun,
        or none can be used, or all that can fall into one split.
      OSError: the disk is full or cannot be written.
    """
    folder = pathlib.Path(output)
    _claim(folder, {**FORMAT, "reader": reader.kind, "recipe": recipe.to_dict()})
    with Journal(folder / CAPTIONS) as journal, warnings.catch_warnings():
        warnings.filterwarnings("ignore", module="PIL")  # Of damage that does no harm.
        build = _Build(reader, folder, recipe, journal)
        try:
            build.run(progress or (lambda done, total: None), threads or os.cpu_count() or 1)
        except _NothingError:
            for name in (CAPTIONS, RECIPE):  # Nothing is in them; the next try is free.
                (folder / name).unlink()
            raise
    return build.report


class _NothingError(ShardError):
    """There is no set to be made."""


class _Build:
    """One run. The arguments are those of `prepare_set`."""

    def __init__(self, reader: Reader, folder: pathlib.Path, recipe: Recipe, journal: Journal):
        self._reader = reader
        self._folder = folder
        self._recipe = recipe
        self._journal = journal
        self._tables: dict[tuple[str, Shape], GrowingShards] = {}
        # Written when everything was looked at: from then on nothing may be added.
        self._closed = (folder / REPORT).is_file()
        self.report = Report()

    def run(self, progress: Progress, threads: int) -> None:
        done, total = 0, self._reader.total
        for _ in self._settled(threads):
            done += 1
            progress(done, total if total and total > done else None)
        progress(done, done)
        line = self._journal.next()
        if line:
            raise self._changed(f"{line.name!r} is not there any more")
        self._journal.flush()
        self._check_splits(done)
        _write_json(self._folder / REPORT, self.report.to_dict())
        self._finish()

    def _settled(self, threads: int) -> Iterator[None]:
        """Yields whenever an entry is done with; they are decoded ahead, and done with in order."""
        waiting: collections.deque[Callable[[], None]] = collections.deque()
        with concurrent.futures.ThreadPoolExecutor(threads) as pool:
            try:
                for entry in self._reader:
                    waiting.append(self._begin(entry, pool))
                    if len(waiting) > _AHEAD * threads:
                        yield waiting.popleft()()
                while waiting:
                    yield waiting.popleft()()
            finally:
                pool.shutdown(wait=False, cancel_futures=True)

    def _begin(
        self, entry: Entry | Skipped, pool: concurrent.futures.Executor
    ) -> Callable[[], None]:
        """Starts what an entry needs, and returns what is to be done when its turn comes."""
        known = self._known(entry)
        if isinstance(entry, Skipped):
            line = Line(entry.name, skipped=entry.reason)
            return lambda: self._note(line, known)
        if known and known.skipped:
            return lambda: self._note(known, known)
        if known:
            table = self._table(known.split, known.shape)
            row = table.next_row()
            if not table.needs(row):
                return lambda: self._note(known, known)
            again = pool.submit(self._recipe.make, entry)
            return lambda: self._redo(known, row, again.result())
        made = pool.submit(self._recipe.make, entry)
        return lambda: self._do(entry, made.result())

    def _known(self, entry: Entry | Skipped) -> Line | None:
        """What an earlier run did with the entry."""
        known = self._journal.next()
        if known is None:
            if self._closed:
                raise self._changed(f"{entry.name!r} is new")
            return None
        if known.name != entry.name:
            raise self._changed(f"where {known.name!r} was is {entry.name!r}")
        unread = isinstance(entry, Skipped)
        if unread and known.skipped != entry.reason:
            raise self._changed(f"{entry.name!r} was used, or skipped for another reason")
        if not unread and (known.captions, known.group) != (entry.captions, entry.group):
            raise self._changed(f"{entry.name!r} has other captions, or another group")
        return known

    def _do(self, entry: Entry, made: Made) -> None:
        """Takes in a picture that no run has seen."""
        line = Line(entry.name, entry.captions, entry.group, skipped=made.skipped)
        if made.skipped:
            self._note(line, None)
            return
        split = self._recipe.split(entry.name)
        self._note(dataclasses.replace(line, split=split, shape=made.shape), None)
        table = self._table(split, made.shape)
        self._add(table, table.next_row(), made)

    def _redo(self, known: Line, row: int, made: Made) -> None:
        """Takes in a picture whose place is known, but not written."""
        if made.shape != known.shape:
            raise self._changed(f"{known.name!r} is another picture")
        self._note(known, known)
        self._add(self._table(known.split, known.shape), row, made)

    def _add(self, table: GrowingShards, row: int, made: Made) -> None:
        shard = table.add(row, made.pixels)
        if shard is not None:
            self._journal.flush()  # First: a shard on disk is always accounted for.
            table.write(shard)

    def _note(self, line: Line, known: Line | None) -> None:
        if known is None:
            self._journal.append(line)
        if line.skipped:
            self.report.skip(line.name, line.skipped)
        else:
            self.report.use(line.split, shape_name(line.shape))

    def _table(self, split: str, shape: Shape) -> GrowingShards:
        if (split, shape) not in self._tables:
            folder = self._folder / split / shape_name(shape)
            self._tables[split, shape] = GrowingShards(folder, shape)
        return self._tables[split, shape]

    def _check_splits(self, done: int) -> None:
        used, place = self.report.pictures, self._reader.place
        if not done:
            raise _NothingError(f"{place}: no pictures are here")
        if not used:
            lines = "\n".join(self.report.skipped_lines())
            raise _NothingError(f"{place}: none of {done} can be used\n{lines}")
        for split in SPLITS:
            if not used[split]:
                written = any(self._folder.glob("*/*/*.array_record"))
                raise (ShardError if written else _NothingError)(
                    f"none of the {used.total()} pictures in {place} fell into {split!r} with "
                    f"--validation={self._recipe.validation}: choose another share"
                    + (" and another --output" if written else "")
                )

    def _finish(self) -> None:
        splits: dict[str, dict[str, int]] = {}
        for (split, shape), table in sorted(self._tables.items()):
            table.finish()
            splits.setdefault(split, {})[shape_name(shape)] = table.rows
        digest = file_sha256(self._folder / CAPTIONS)
        content = {**FORMAT, "recipe": self._recipe.to_dict(), "splits": splits, "sha256": digest}
        _write_json(self._folder / SET, content)

    def _changed(self, how: str) -> ShardError:
        return ShardError(
            f"{self._reader.place} has changed since {self._folder} was begun: {how}. Choose "
            "another --output, or remove this one"
        )


def shape_name(shape: Shape) -> str:
    """The name of a folder: "80x48" for a height of 80 and a width of 48."""
    return f"{shape[0]}x{shape[1]}"


def _claim(folder: pathlib.Path, plan: dict) -> None:
    """Makes the folder this plan's, unless it is another's."""
    path = folder / RECIPE
    if path.is_file():
        try:
            begun = json.loads(path.read_text())
        except ValueError:
            begun = {}
        changed = differences(begun, plan)
        if changed:
            raise ShardError(
                f"{folder} was begun otherwise: {'; '.join(changed[:5])}. Choose another --output, "
                "or remove this one"
            )
        return
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise ShardError(f"{folder} holds something else: --output must be a new folder")
    folder.mkdir(parents=True, exist_ok=True)
    _write_json(path, plan)


def _write_json(path: pathlib.Path, value: dict) -> None:
    temporary = path.with_suffix(".tmp")
    with contextlib.closing(open(temporary, "w", encoding="utf-8")) as file:
        file.write(json.dumps(value, indent=2, ensure_ascii=False) + "\n")
        file.flush()
        os.fsync(file.fileno())
    os.replace(temporary, path)
