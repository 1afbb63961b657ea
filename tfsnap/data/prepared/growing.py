"""Shards of pictures whose number is known only when all of them were looked at."""

import pathlib

import numpy as np

from tfsnap.data.prepared.framing import Shape
from tfsnap.data.shards import ShardWriter, TableSpec, shard_checksum, write_shard

IMAGE = "image"
_SHARD_BYTES = 2**26
_SHARD_ROWS = 1024  # At most.
_ABOUT = {"kind": "tfsnap pictures"}


class GrowingShards:
    """Pictures of one split and one shape, which come in order; shards that are there stay.

    Args:
      folder: where they go.
      shape: their height and width.

    Attributes:
      rows: how many there are.
    """

    def __init__(self, folder: pathlib.Path, shape: Shape):
        self._folder = folder
        self._specs = {IMAGE: TableSpec("uint8", (*shape, 3))}
        self._per_shard = max(1, min(_SHARD_ROWS, _SHARD_BYTES // self._specs[IMAGE].size))
        self._waiting: dict[int, list[bytes]] = {}
        self._whole: dict[int, bool] = {}
        self.rows = 0

    def next_row(self) -> int:
        """Takes the next row."""
        self.rows += 1
        return self.rows - 1

    def needs(self, row: int) -> bool:
        """Whether the row's shard is still to be written."""
        shard = row // self._per_shard
        if shard not in self._whole:
            self._whole[shard] = shard_checksum(self._folder, shard) is not None
        return not self._whole[shard]

    def add(self, row: int, pixels: bytes) -> int | None:
        """Keeps a picture until its shard is complete.

        Args:
          row: whose shard is needed; rows of a shard come in order.
          pixels: uint8 [height, width, 3].

        Returns:
          The shard that is complete now and should be written.
        """
        shard = row // self._per_shard
        waiting = self._waiting.setdefault(shard, [])
        waiting.append(pixels)
        return shard if len(waiting) == self._per_shard else None

    def write(self, shard: int) -> None:
        """Writes a shard of the pictures that wait for it.

        Raises:
          OSError: see `write_shard`.
        """
        waiting = self._waiting.pop(shard)
        images = np.frombuffer(b"".join(waiting), np.uint8)
        images = images.reshape(len(waiting), *self._specs[IMAGE].shape)  # [R, H, W, 3]
        self._folder.mkdir(parents=True, exist_ok=True)
        write_shard(
            self._folder, shard, specs=self._specs, tables={IMAGE: images}, rows=len(images)
        )

    def finish(self) -> None:
        """Writes what waits, and the manifest."""
        for shard in sorted(self._waiting):
            self.write(shard)
        ShardWriter(
            self._folder,
            tables=self._specs,
            rows=self.rows,
            rows_per_shard=self._per_shard,
            about=_ABOUT,
        ).finish()
