"""How long the blocks of a UNet take on a device, and what that says of a whole network."""

import dataclasses
import json
import os
import pathlib
from collections.abc import Iterable, Mapping
from typing import Any, Self

from tfsnap.config import UNetConfig, write_json
from tfsnap.errors import TfsnapError
from tfsnap.models.blocks import Block, blocks_of

FORMAT = {"format": "tfsnap latency table", "version": 1}


class LatencyError(TfsnapError, ValueError):
    """A table is damaged, or does not know a block; the message says what to do."""


@dataclasses.dataclass(frozen=True)
class LatencyTable:
    """Milliseconds of blocks, measured one by one on one device.

    Attributes:
      ms: median time of each block.
      about: what was measured, and how: device, delegate, threads, precision, warm-up and runs.

    Example:
      >>> table = LatencyTable.load("phone.json")
      >>> table.predict(config, latent=(64, 64), tokens=77)
      231.4
    """

    ms: Mapping[Block, float]
    about: Mapping[str, Any]

    def predict(self, config: UNetConfig, *, latent: tuple[int, int], tokens: int) -> float:
        """Milliseconds of one evaluation of a network: the sum over its blocks.

        Args:
          config: the network.
          latent: height and width of the latent.
          tokens: length of the text embedding.

        Raises:
          LatencyError: a block was not measured.
        """
        blocks = blocks_of(config, latent=latent, tokens=tokens)
        missing = [name for name, block in blocks.items() if block not in self.ms]
        if missing:
            raise LatencyError(
                f"{len(missing)} blocks are not in the table, such as {missing[0]} "
                f"({blocks[missing[0]]}): measure them with tools/latency_table.py"
            )
        return sum(self.ms[block] for block in blocks.values())

    def yardstick(
        self, config: UNetConfig, *, latent: tuple[int, int], tokens: int
    ) -> dict[str, Any]:
        """What tables must have in common for their latencies to compare, as JSON types.

        How they were measured, and the milliseconds of a network's blocks; other blocks may be
        added to a table.

        Args:
          config: the network, all of whose blocks were measured.
          latent: height and width of the latent.
          tokens: length of the text embedding.
        """
        blocks = blocks_of(config, latent=latent, tokens=tokens)
        ms = {name: self.ms[block] for name, block in blocks.items()}
        return {"about": dict(self.about), "ms": ms}

    def missing(self, blocks: Iterable[Block]) -> list[Block]:
        """Those of some blocks that the table does not know, each once, in order."""
        return [block for block in dict.fromkeys(blocks) if block not in self.ms]

    def save(self, path: str | os.PathLike) -> None:
        """Writes the table as JSON, complete or not at all."""
        rows = [{**block.to_dict(), "ms": ms} for block, ms in sorted(self.ms.items())]
        content = {**FORMAT, "about": dict(self.about), "blocks": rows}
        write_json(pathlib.Path(path), content)

    @classmethod
    def load(cls, path: str | os.PathLike) -> Self:
        """Reads a table, measured here or elsewhere.

        Raises:
          LatencyError: it is no table, or a row of it is wrong.
          OSError: it cannot be read.
        """
        try:
            content = json.loads(pathlib.Path(path).read_text())
            if {key: content.get(key) for key in FORMAT} != FORMAT:
                raise LatencyError(f"{path} is not {FORMAT}: write one with tools/latency_table.py")
            rows = [(dict(row), float(row["ms"])) for row in content["blocks"]]
            ms = {Block.from_dict(_without(row, "ms")): time for row, time in rows}
            wrong = [block for block, time in ms.items() if not time > 0]
            if wrong:
                raise LatencyError(
                    f"{path}: {wrong[0]} takes {ms[wrong[0]]} ms; it must be above 0"
                )
            return cls(ms, content["about"])
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            if isinstance(error, LatencyError):
                raise
            raise LatencyError(f"{path} is damaged: {type(error).__name__}: {error}") from error


def _without(row: dict[str, Any], name: str) -> dict[str, Any]:
    return {key: value for key, value in row.items() if key != name}
