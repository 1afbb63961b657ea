"""A weight file of either kind."""

import pathlib

from tfsnap.weights.lazy import LazyTensor, open_safetensors
from tfsnap.weights.torch_file import open_torch_file


def open_file(path: pathlib.Path) -> dict[str, LazyTensor]:
    """Tensors of a .safetensors file or of one of PyTorch's, by name, none of them read yet.

    Raises:
      WeightFileError: the file is missing or damaged, or its pickle asks for more than tensors.
    """
    if path.suffix == ".safetensors":
        return open_safetensors(path)[0]
    return open_torch_file(path)
