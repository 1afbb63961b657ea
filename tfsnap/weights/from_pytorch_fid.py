"""The weights of Inception that the FID is defined with."""

import os
import pathlib

from tfsnap.models.inception import Inception, build_inception
from tfsnap.weights.names.inception import inception_rows
from tfsnap.weights.names.table import match
from tfsnap.weights.open_file import open_file
from tfsnap.weights.store import assign
from tfsnap.weights.tensors import WeightMismatchError

# The classifier, which no distance needs, and counters of training.
_UNUSED = ("fc.", "AuxLogits.")
_COUNTER = ".num_batches_tracked"


def load_inception(path: str | os.PathLike) -> Inception:
    """Builds Inception from a file of pytorch-fid or torch-fidelity.

    Args:
      path: `weights-inception-2015-12-05-6726825d.pth`, or the same as .safetensors.

    Raises:
      WeightFileError: the file is missing, damaged or of an unknown kind.
      WeightMismatchError: its tensors are not Inception's; the message lists them.
    """
    model = build_inception()
    found = {
        name: tensor for name, tensor in open_file(pathlib.Path(path)).items() if _is_used(name)
    }
    rows = inception_rows(model)
    tensors, problems = match(rows, found, name=lambda row: row.diffusers, torch=True)
    if problems:
        lines = [f"{path} is not the Inception of the FID:", *problems]
        raise WeightMismatchError("\n".join(lines))
    assign({name: t.read() for name, t in tensors.items()}, model.variables, source=str(path))
    return model


def _is_used(name: str) -> bool:
    return not name.startswith(_UNUSED) and not name.endswith(_COUNTER)
