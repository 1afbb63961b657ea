"""How much the quantisation of each layer alone costs a network."""

import contextlib
import csv
import os
import pathlib
from collections.abc import Callable, Iterator

from tfsnap.export.quantisation.files import require_usable
from tfsnap.export.quantisation.trials import QuantisedNetwork

_COLUMNS = ("network", "layer", "operator", "psnr_db", "calibration")
_KEY = ("network", "layer", "calibration")
_HEADER = "\t".join(_COLUMNS)


class SensitivityTable:
    """A file of what was measured, tab-separated, a line for each layer.

    Lines are written as they are measured, so that nothing is measured twice: a process that was
    stopped goes on where it was. Of lines that are not whole, as where it was killed, the last is
    overwritten and others are passed over.

    Args:
      path: of the file.

    Raises:
      ValueError: there is another file, or none can be written.
    """

    def __init__(self, path: str | os.PathLike):
        self._path = pathlib.Path(path)
        require_usable(self._path, "--sensitivity", appended=True)
        content = self._path.read_bytes() if self._path.exists() else b""
        whole = content[: content.rfind(b"\n") + 1]
        self._whole = len(whole) if len(whole) < len(content) else None  # Of more bytes there are.
        self._known = dict(self._measurements(whole or content))

    def measured(
        self, network: QuantisedNetwork, psnr_db: Callable[[str], float], calibration: str
    ) -> dict[str, float]:
        """Measures the layers that are not in the table yet.

        Args:
          network: the network.
          psnr_db: measures it with a layer alone quantised.
          calibration: tells ranges and weights from others, which the table may hold as well.

        Returns:
          PSNR of the network's output by layer, when that layer alone is quantised.
        """
        found = {}
        for layer, op in network.layers.items():
            key = network.name, layer, calibration
            if key not in self._known:
                self._known[key] = psnr_db(layer)
                self._append([network.name, layer, op.name, self._known[key], calibration])
            found[layer] = self._known[key]
        return found

    def _measurements(self, content: bytes) -> Iterator[tuple[tuple[str, ...], float]]:
        """What whole lines say; `content` is the file's, to the end of the last of them."""
        header, *lines = content.decode(errors="replace").splitlines() or [""]
        if header != _HEADER:
            if _HEADER.startswith(header) and not lines:  # Nothing, or killed in its first line.
                return
            raise ValueError(f"{self._path} is no table of sensitivities: give another file")
        for line in lines:
            with contextlib.suppress(ValueError, csv.Error):
                (fields,) = csv.reader([line], delimiter="\t")
                row = dict(zip(_COLUMNS, fields, strict=True))
                yield tuple(row[column] for column in _KEY), float(row["psnr_db"])

    def _append(self, values: list) -> None:
        self._path.parent.mkdir(parents=True, exist_ok=True)
        if self._whole is not None:
            os.truncate(self._path, self._whole)
            self._whole = None
        with self._path.open("a", newline="", encoding="utf-8") as file:
            writer = csv.writer(file, delimiter="\t", lineterminator="\n")
            if file.tell() == 0:
                writer.writerow(_COLUMNS)
            writer.writerow([f"{v:.2f}" if isinstance(v, float) else v for v in values])
