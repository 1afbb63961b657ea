"""How much the quantisation of each layer alone costs a network."""

import csv
import os
import pathlib
from collections.abc import Callable, Iterator

from tfsnap.export.quantisation.trials import QuantisedNetwork

_COLUMNS = ("network", "layer", "operator", "psnr_db", "calibration")


class SensitivityTable:
    """A file of what was measured, tab-separated, a line for each layer.

    Lines are written as they are measured, so that nothing is measured twice: a process that was
    stopped goes on where it was.

    Args:
      path: of the file.

    Raises:
      ValueError: there is another file.
    """

    def __init__(self, path: str | os.PathLike):
        self._path = pathlib.Path(path)
        self._known = {tuple(row[c] for c in _KEY): float(row["psnr_db"]) for row in self._rows()}

    def measured(
        self, network: QuantisedNetwork, psnr_db: Callable[[set[str]], float], calibration: str
    ) -> dict[str, float]:
        """Measures the layers that are not in the table yet.

        Args:
          network: the network.
          psnr_db: measures it with a set of layers kept in float16.
          calibration: tells ranges and weights from others, which the table may hold as well.

        Returns:
          PSNR of the network's output by layer, when that layer alone is quantised.
        """
        found = {}
        for layer, op in network.layers.items():
            key = network.name, layer, calibration
            if key not in self._known:
                self._known[key] = psnr_db(set(network.layers) - {layer})
                self._append([network.name, layer, op.name, self._known[key], calibration])
            found[layer] = self._known[key]
        return found

    def _rows(self) -> Iterator[dict[str, str]]:
        if not self._path.exists():
            return
        with self._path.open(newline="", encoding="utf-8") as file:
            rows = csv.DictReader(file, delimiter="\t")
            if tuple(rows.fieldnames or ()) != _COLUMNS:
                raise ValueError(f"{self._path} is no table of sensitivities: give another file")
            yield from (row for row in rows if None not in row.values())

    def _append(self, values: list) -> None:
        new = not self._path.exists()
        with self._path.open("a", newline="", encoding="utf-8") as file:
            writer = csv.writer(file, delimiter="\t", lineterminator="\n")
            if new:
                writer.writerow(_COLUMNS)
            writer.writerow([f"{v:.2f}" if isinstance(v, float) else v for v in values])


_KEY = ("network", "layer", "calibration")
