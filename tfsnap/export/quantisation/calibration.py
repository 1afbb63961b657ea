"""What the networks of a model compute on real pictures, in a file for later exports."""

import collections
import dataclasses
import hashlib
import os
from collections.abc import Iterable, Mapping

import numpy as np

from tfsnap.export.graphs import Graph
from tfsnap.export.keras_components import Call
from tfsnap.weights.store import address
from tfsnap.weights.tensors import load_metadata, load_tensors, save_tensors

_SIDES = ("inputs", "outputs")
_PICTURES = "pictures/"  # In the header beside the networks, whose names hold no slash.
_METHOD = "all:"  # Begins fingerprints. Those of earlier files had no such word.
_REMEDY = "give another --calibration, which is then recorded"


@dataclasses.dataclass(frozen=True)
class NetworkCalibration:
    """What one network computed.

    Attributes:
      weights: the fingerprint of the weights that it had.
      observed: values of activations by the name of the tensor, sorted: quantiles, the first the
        least that was seen and the last the largest.
      calls: the evaluations, in Keras.
    """

    weights: str
    observed: dict[str, np.ndarray]
    calls: list[Call]

    def extremes(self) -> dict[str, tuple[float, float]]:
        """The least and the largest value of each tensor."""
        return {name: (float(v[0]), float(v[-1])) for name, v in self.observed.items()}


Calibration = dict[str, NetworkCalibration]  # By network.


def save_calibration(
    path: str | os.PathLike,
    calibration: Calibration,
    pictures: Mapping[str, object] | None = None,
) -> None:
    """Writes a calibration as safetensors, whole or not at all.

    Args:
      path: file to write.
      calibration: networks, whose names hold no slash.
      pictures: what was drawn, for `recorded_pictures`.

    Raises:
      OSError: the file cannot be written.
    """
    tensors = {}
    for network, one in calibration.items():
        tensors |= {f"observed/{network}/{name}": v for name, v in one.observed.items()}
        for i, call in enumerate(one.calls):
            for side, arrays in zip(_SIDES, call, strict=True):
                tensors |= {f"{side}/{network}/{i}/{name}": v for name, v in arrays.items()}
    weights = {name: one.weights for name, one in calibration.items()}
    save_tensors(path, tensors, {**weights, _PICTURES: dict(pictures or {})})


def recorded_pictures(path: str | os.PathLike) -> dict[str, object]:
    """What was drawn for a file of `save_calibration`; nothing where it does not tell.

    Raises:
      WeightFileError: the file is missing, truncated or not safetensors.
    """
    return load_metadata(path).get(_PICTURES) or {}


def load_calibration(path: str | os.PathLike) -> Calibration:
    """Reads a calibration.

    Raises:
      WeightFileError: the file is missing, truncated or not safetensors.
      ValueError: it holds no calibration.
    """
    tensors, about = load_tensors(path)
    weights = {name: mark for name, mark in about.items() if name != _PICTURES}
    observed, calls = collections.defaultdict(dict), collections.defaultdict(dict)
    for key, array in tensors.items():
        kind, _, rest = key.partition("/")
        network, _, name = rest.partition("/")
        if network not in weights or kind not in ("observed", *_SIDES):
            raise ValueError(f"{path} holds no calibration but {key}: give another file")
        if kind == "observed":
            observed[network][name] = array
        else:
            number, _, name = name.partition("/")
            call = calls[network].setdefault(int(number), ({}, {}))
            call[_SIDES.index(kind)][name] = array
    return {
        name: NetworkCalibration(
            mark, observed[name], [calls[name][number] for number in sorted(calls[name])]
        )
        for name, mark in weights.items()
    }


def require_same_weights(
    path: str | os.PathLike, calibration: Calibration, wanted: Mapping[str, str]
) -> None:
    """Checks that a file's calibration is of the networks that are exported.

    Args:
      path: of the file, for the message.
      calibration: what it holds.
      wanted: fingerprints of the networks' weights, by network.

    Raises:
      ValueError: a network is missing, its weights were others, or an earlier tfsnap recorded it.
    """
    missing = [name for name in wanted if name not in calibration or not calibration[name].calls]
    if missing:
        raise ValueError(f"{path} has no calibration of {', '.join(missing)}: {_REMEDY}")
    if not all(str(calibration[name].weights).startswith(_METHOD) for name in wanted):
        raise ValueError(
            f"{path} was recorded by an earlier tfsnap, which did not note all weights: {_REMEDY}"
        )
    other = [name for name in wanted if calibration[name].weights != wanted[name]]
    if other:
        raise ValueError(f"{path} was recorded with other weights of {', '.join(other)}: {_REMEDY}")


def require_same_shapes(
    path: str | os.PathLike, calibration: Calibration, wanted: Mapping[str, Graph]
) -> None:
    """Checks that a file's calibration is of pictures of the size that is exported.

    Args:
      path: of the file, for the message.
      calibration: what it holds; all networks are there.
      wanted: the networks that are exported.

    Raises:
      ValueError: an evaluation had inputs of other names or shapes.
    """
    for network, graph in wanted.items():
        shapes = {name: tuple(spec.shape) for name, spec in graph.inputs.items()}
        for inputs, _ in calibration[network].calls:
            found = {name: array.shape for name, array in inputs.items()}
            changed = sorted({name for name, _ in found.items() ^ shapes.items()})
            if changed:
                raise ValueError(
                    f"{path} was recorded with another --shape or --guidance_batch: the {network} "
                    f"took {_listed(found, changed)} and takes {_listed(shapes, changed)} here; "
                    f"{_REMEDY}"
                )


def _listed(shapes: Mapping[str, tuple[int, ...]], names: Iterable[str]) -> str:
    return ", ".join(f"{name} {list(shapes.get(name, ()))}" for name in names)


def fingerprint(graph: Graph) -> str:
    """Tells the weights of a graph from others.

    It reads all of them, one in memory at a time. Less would not do: merging a LoRA, for one,
    changes matrices and neither biases nor norms.
    """
    digest = hashlib.sha256()
    for variable in graph.variables:
        digest.update(address(variable).encode())
        digest.update(np.ascontiguousarray(graph.values[address(variable)].read()).data)
    return _METHOD + digest.hexdigest()
