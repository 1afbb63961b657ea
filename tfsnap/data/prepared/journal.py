"""What became of everything that was looked at, a line each, in order: a set's captions.jsonl.

Where a run was killed, the next one reads its lines while it reads the pictures, and knows without
decoding which of them went where.
"""

import dataclasses
import json
import os
import pathlib
from typing import Self

from tfsnap.data.prepared.framing import Shape
from tfsnap.data.shards import ShardError
from tfsnap.lock import take


@dataclasses.dataclass(frozen=True, slots=True)
class Line:
    """What became of an entry.

    Attributes:
      name: of the entry.
      captions: of the entry; empty where the reader itself skipped it.
      group: of the entry.
      split: that it went to, "" where it was skipped.
      shape: that it was made to, None where it was skipped.
      skipped: why, "" where it was used.
    """

    name: str
    captions: tuple[str, ...] = ()
    group: str = ""
    split: str = ""
    shape: Shape | None = None
    skipped: str = ""

    def to_json(self) -> str:
        """The line as it is stored, without its end."""
        values = {name: value for name, value in dataclasses.asdict(self).items() if value}
        return json.dumps(values, ensure_ascii=False)

    @classmethod
    def from_json(cls, text: str) -> Self:
        """Reads `to_json`'s output.

        Raises:
          ValueError, TypeError: it is something else.
        """
        values = json.loads(text)
        for name in ("captions", "shape"):
            if name in values:
                values[name] = tuple(values[name])
        return cls(**values)


class Journal:
    """Reads what an earlier run wrote, and then writes on.

    Args:
      path: the file.

    Raises:
      ShardError: another process is writing it.
    """

    def __init__(self, path: pathlib.Path):
        self._path = path
        self._file = open(path, "ab+")  # noqa: SIM115  (closed by __exit__)
        if not self._alone():
            self._file.close()
            raise ShardError(f"{path} is being written by another process: wait for it")
        self._file.truncate(_whole_size(path))
        self._file.seek(0)
        self.reading = True

    def _alone(self) -> bool:
        try:
            return take(self._file.fileno())
        except OSError:  # Where there are no locks, nobody knows.
            return False

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def next(self) -> Line | None:
        """The next line of the earlier run, None where it has no more."""
        if not self.reading:
            return None
        text = self._file.readline()
        if not text:
            self.reading = False
            return None
        try:
            return Line.from_json(text.decode("utf-8"))
        except (ValueError, TypeError) as error:
            raise ShardError(
                f"{self._path} is damaged at {text[:80]!r}: remove {self._path.parent} and prepare "
                "it again"
            ) from error

    def append(self, line: Line) -> None:
        """Writes a line, perhaps not to the disk yet."""
        self._file.write(line.to_json().encode("utf-8") + b"\n")

    def flush(self) -> None:
        """Writes to the disk what was appended."""
        self._file.flush()
        os.fsync(self._file.fileno())


def _whole_size(path: pathlib.Path) -> int:
    """Size of the file without a last line that was not written to its end."""
    with open(path, "rb") as file:
        size = file.seek(0, os.SEEK_END)
        while size:
            start = max(0, size - 65536)
            file.seek(start)
            end = file.read(size - start).rfind(b"\n")
            if end >= 0:
                return start + end + 1
            size = start
    return 0
