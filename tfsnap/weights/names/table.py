"""A row of a name table, and the comparison of a file with a table."""

import dataclasses
from collections.abc import Callable, Iterable, Mapping

import numpy as np

from tfsnap.weights.lazy import READABLE, LazyTensor
from tfsnap.weights.tensors import listed

_LISTED = 12  # How many names of each kind a mismatch lists.


@dataclasses.dataclass(frozen=True)
class Row:
    """One tensor: its address here, its names elsewhere, its shapes.

    Kernels are [..., in, out] here and [out, in, ...] in PyTorch; everything else is the same.

    Attributes:
      address: the key of tfsnap's store.
      diffusers: the name in the component's diffusers file.
      ldm: the name in the original single file, behind the component's prefix.
      shape: the shape here.
      torch_shape: the shape in diffusers' file.
      kernel: whether axes are reordered.
    """

    address: str
    diffusers: str
    ldm: str
    shape: tuple[int, ...]
    torch_shape: tuple[int, ...]
    kernel: bool = False

    def accepts(self, shape: tuple[int, ...]) -> bool:
        """Whether a PyTorch tensor of this shape can be the row's.

        A 1x1 convolution and a linear layer are the same numbers, and checkpoints of every age
        store either for the other.
        """
        if shape == self.torch_shape:
            return True
        pointwise = self.kernel and (len(self.shape) == 2 or self.shape[:2] == (1, 1))
        pair = self.torch_shape[:2]
        return pointwise and shape in (pair, (*pair, 1, 1))

    def from_torch(self, array: np.ndarray) -> np.ndarray:
        """Reorders a PyTorch array to the shape here."""
        if self.kernel:
            array = array.transpose(2, 3, 1, 0) if array.ndim == 4 else array.T
        return array.reshape(self.shape)

    def to_torch(self, array: np.ndarray) -> np.ndarray:
        """The inverse of `from_torch`, to `torch_shape`."""
        if not self.kernel:
            return array
        if len(self.torch_shape) == 4:
            return array.transpose(3, 2, 0, 1)
        return array.reshape(self.shape[-2:]).T


def vector(address: str, diffusers: str, ldm: str, *shape: int) -> Row:
    """A tensor that has the same shape everywhere."""
    return Row(address, diffusers, ldm, shape, shape)


def convolution(ours: str, diffusers: str, ldm: str, channels: tuple[int, int, int]) -> list[Row]:
    """Kernel and bias of a convolution; `channels` are (in, out, side of the kernel)."""
    inward, outward, side = channels
    kernel = Row(
        f"{ours}.kernel",
        f"{diffusers}.weight",
        f"{ldm}.weight",
        (side, side, inward, outward),
        (outward, inward, side, side),
        kernel=True,
    )
    return [kernel, vector(f"{ours}.bias", f"{diffusers}.bias", f"{ldm}.bias", outward)]


def dense(
    ours: str, diffusers: str, ldm: str, channels: tuple[int, int], bias: bool = True
) -> list[Row]:
    """Kernel and bias of a linear layer; `channels` are (in, out)."""
    names = (f"{ours}.kernel", f"{diffusers}.weight", f"{ldm}.weight")
    rows = [Row(*names, channels, channels[::-1], kernel=True)]
    if bias:
        rows.append(vector(f"{ours}.bias", f"{diffusers}.bias", f"{ldm}.bias", channels[1]))
    return rows


def norm(ours: str, diffusers: str, ldm: str, channels: int) -> list[Row]:
    """Scale and shift of a group or layer normalisation."""
    return [
        vector(f"{ours}.gamma", f"{diffusers}.weight", f"{ldm}.weight", channels),
        vector(f"{ours}.beta", f"{diffusers}.bias", f"{ldm}.bias", channels),
    ]


def match(
    rows: Iterable[Row],
    found: Mapping[str, LazyTensor],
    *,
    name: Callable[[Row], str],
    torch: bool,
) -> tuple[dict[str, LazyTensor], list[str]]:
    """Finds every row's tensor, in the layout here.

    Args:
      rows: the network's table.
      found: the file's tensors by name, without those that belong to no network.
      name: which column of the table names them.
      torch: whether the tensors have PyTorch's order of axes.

    Returns:
      Tensors by address, and one line for each kind of difference; the tensors are complete if
      there is no line.
    """
    rows = list(rows)
    wanted = {name(row): row for row in rows}
    fits = Row.accepts if torch else (lambda row, shape: shape == row.shape)
    shared = [(key, row, found[key]) for key, row in wanted.items() if key in found]
    kinds = {
        "missing": sorted(wanted.keys() - found.keys()),
        "unexpected": sorted(found.keys() - wanted.keys()),
        "mis-shaped": [
            f"{key} (file {list(tensor.shape)}, network {list(_expected(row, torch))})"
            for key, row, tensor in shared
            if not fits(row, tensor.shape)
        ],
        "not floating-point": [
            f"{key} ({tensor.dtype})"
            for key, _, tensor in shared
            if tensor.dtype.kind != "f" and not tensor.unread
        ],
        f"of a type that is not read ({READABLE})": [
            f"{key} ({tensor.unread})" for key, _, tensor in shared if tensor.unread
        ],
    }
    tensors = {
        row.address: tensor.map(row.shape, row.from_torch) if torch else tensor
        for _, row, tensor in shared
    }
    return tensors, listed(kinds, _LISTED)


def _expected(row: Row, torch: bool) -> tuple[int, ...]:
    return row.torch_shape if torch else row.shape
