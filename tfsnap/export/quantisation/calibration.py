"""What the networks of a model compute on real pictures, in a file for later exports."""

import collections
import dataclasses
import hashlib
import os
from collections.abc import Mapping

import numpy as np

from tfsnap.export.graphs import Graph
from tfsnap.export.keras_components import Call
from tfsnap.weights.store import address
from tfsnap.weights.tensors import load_tensors, save_tensors

_SIDES = ("inputs", "outputs")


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


def save_calibration(path: str | os.PathLike, calibration: Calibration) -> None:
    """Writes a calibration as safetensors, whole or not at all.

    Args:
      path: file to write.
      calibration: networks, whose names hold no slash.

    Raises:
      OSError: the file cannot be written.
    """
    tensors = {}
    for network, one in calibration.items():
        tensors |= {f"observed/{network}/{name}": v for name, v in one.observed.items()}
        for i, call in enumerate(one.calls):
            for side, arrays in zip(_SIDES, call, strict=True):
                tensors |= {f"{side}/{network}/{i}/{name}": v for name, v in arrays.items()}
    save_tensors(path, tensors, {name: one.weights for name, one in calibration.items()})


def load_calibration(path: str | os.PathLike) -> Calibration:
    """Reads a calibration.

    Raises:
      WeightFileError: the file is missing, truncated or not safetensors.
      ValueError: it holds no calibration.
    """
    tensors, weights = load_tensors(path)
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
      ValueError: a network is missing, or its weights were others.
    """
    missing = [name for name in wanted if name not in calibration]
    if missing:
        raise ValueError(
            f"{path} has no calibration of {', '.join(missing)}: give another --calibration, which "
            "is then recorded"
        )
    other = [name for name in wanted if calibration[name].weights != wanted[name]]
    if other:
        raise ValueError(
            f"{path} was recorded with other weights of {', '.join(other)}: give another "
            "--calibration, which is then recorded"
        )


def fingerprint(graph: Graph) -> str:
    """Tells the weights of a graph from others, by its biases and norms: all that is quick to read.

    Layers that are trained change these as well.
    """
    digest = hashlib.sha256()
    for variable in graph.variables:
        if len(variable.shape) < 2:
            digest.update(address(variable).encode())
            digest.update(np.ascontiguousarray(graph.values[address(variable)].read()).data)
    return digest.hexdigest()
