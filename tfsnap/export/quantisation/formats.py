"""The integers that activations are quantised to, and the operators that take them."""

import dataclasses
from collections.abc import Mapping

import numpy as np

_LEAST_RANGE = 1e-6  # Of a tensor that is nearly nothing: a scale must not be zero.


@dataclasses.dataclass(frozen=True)
class ActivationFormat:
    """Integers for activations; weights are int8 beside all of them.

    Attributes:
      dtype: "int8" or "int16".
      lowest: the least integer.
      highest: the largest.
      symmetric: whether zero must be the integer 0, as kernels of int16 want it.
      headroom: times the recorded range that the integers cover.
      bias: type of the biases, whose scale is the product of input's and weights'.
      versions: the least version of each operator that takes these integers.
    """

    dtype: str
    lowest: int
    highest: int
    symmetric: bool
    headroom: float
    bias: np.dtype
    versions: Mapping[str, int]

    @property
    def steps(self) -> int:
        """Of the integers, from the least to the largest."""
        return self.highest - self.lowest

    def parameters(self, least: float, most: float) -> tuple[float, int]:
        """Scale and zero point of a tensor whose values go from `least` to `most`.

        Zero is always among the values, and is an integer, so that padding is exact.
        """
        least = min(float(least), 0.0) * self.headroom
        most = max(float(most), 0.0) * self.headroom
        if self.symmetric:
            return max(-least, most, _LEAST_RANGE) / self.highest, 0
        scale = max(most - least, _LEAST_RANGE) / self.steps
        zero = np.clip(np.round(self.lowest - least / scale), self.lowest, self.highest)
        return scale, int(zero)


INT8 = ActivationFormat(
    dtype="int8",
    lowest=-128,
    highest=127,
    symmetric=False,
    headroom=1.0,
    bias=np.dtype(np.int32),
    versions={
        "QUANTIZE": 1,
        "DEQUANTIZE": 2,
        "CONV_2D": 3,
        "DEPTHWISE_CONV_2D": 3,
        "FULLY_CONNECTED": 4,
    },
)
INT16 = ActivationFormat(
    dtype="int16",
    lowest=-32767,
    highest=32767,
    symmetric=True,
    headroom=4.0,  # Fourteen bits are plenty, and prompts that were not recorded may reach further.
    bias=np.dtype(np.int64),
    versions={
        "QUANTIZE": 2,
        "DEQUANTIZE": 3,
        "CONV_2D": 4,
        "DEPTHWISE_CONV_2D": 5,
        "FULLY_CONNECTED": 7,
    },
)

# By the value of --precision.
FORMATS = {"int8_full": INT8, "int16": INT16}
