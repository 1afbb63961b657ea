"""Does every tensor fit the GPU's images or buffers?

A tensor [B, H, W, C] is kept in half precision, in vectors of 4 channels: as an image of W B by
H ceil(C/4) pixels, as ceil(C/4) layers of W B by H, or as a buffer. What no form holds is refused.
"""

import dataclasses
from collections.abc import Iterable

from tfsnap.export.rules.graph import Graph, Operator, Tensor
from tfsnap.export.rules.rule import GPUS, Effect, Match, Rule

_VECTOR = 4
_BYTES = 2


@dataclasses.dataclass(frozen=True)
class GpuClass:
    """Limits of a family of GPUs.

    Attributes:
      name: what a user calls it.
      image: largest width and height of a 2-D image, in pixels.
      layers: most layers of a 2-D image.
      buffer: most bytes of a storage buffer that a shader sees.
      source: who publishes the figures.
    """

    name: str
    image: int
    layers: int
    buffer: int
    source: str


_MESA = "Mesa's driver"
GPU_CLASSES = {
    gpu.name: gpu
    for gpu in (
        GpuClass(
            "vulkan-minimum",
            4096,
            256,
            1 << 27,
            "the Vulkan specification, required limits: what every Vulkan GPU has",
        ),
        GpuClass(
            "webgpu-default",
            8192,
            256,
            1 << 27,
            "the WebGPU specification, default limits",
        ),
        GpuClass(
            "adreno-740",
            1 << 14,
            1 << 11,
            1 << 27,
            f"{_MESA}: src/freedreno/vulkan/tu_device.cc and tu_common.h, as Qualcomm's driver",
        ),
        GpuClass(
            "mali-g710",
            (1 << 14) - 1,
            1 << 16,
            (1 << 32) - 1,
            f"{_MESA}: src/panfrost/vulkan/panvk_vX_physical_device.c, architecture 10",
        ),
        GpuClass(
            "mali-g720",
            1 << 16,
            1 << 16,
            (1 << 32) - 1,
            f"{_MESA}: src/panfrost/vulkan/panvk_vX_physical_device.c, architecture 12",
        ),
    )
}


def find_gpu_class(name: str) -> GpuClass:
    """Returns a family of GPUs.

    Raises:
      ValueError: there is none of that name.
    """
    if name not in GPU_CLASSES:
        raise ValueError(f"GPU class is {name!r}; it must be one of {', '.join(GPU_CLASSES)}")
    return GPU_CLASSES[name]


def limit_rules(gpu: GpuClass) -> tuple[Rule, ...]:
    """Returns the rules that tensors too large for `gpu` break."""

    def too_large(graph: Graph) -> Iterable[Match]:
        for operator, tensor in _produced(graph):
            if not _fits_image(tensor, gpu) and not _fits_buffer(tensor, gpu):
                yield operator, f"{tensor}: {_describe(tensor)}"

    def only_buffer(graph: Graph) -> Iterable[Match]:
        for operator, tensor in _produced(graph):
            if not _fits_image(tensor, gpu) and _fits_buffer(tensor, gpu):
                yield operator, f"{tensor}: {_describe(tensor)}"

    limits = f"images of {gpu.image:,} x {gpu.image:,}, {gpu.layers:,} layers"
    buffers = f"buffers of {gpu.buffer / 2**20:,.0f} MiB"
    return (
        Rule(
            "too-large",
            f"{gpu.name} has {limits}, and {buffers} ({gpu.source}).",
            GPUS,
            Effect.REJECTED,
            too_large,
        ),
        Rule(
            "only-buffer",
            f"Too large for {gpu.name}'s {limits}: kept in a buffer, which some GPUs read slower.",
            GPUS,
            Effect.NOTE,
            only_buffer,
        ),
    )


def _produced(graph: Graph) -> Iterable[tuple[Operator, Tensor]]:
    """What operators compute, and the tables that they gather from."""
    for operator in graph.operators:
        tables = operator.operands[:1] if operator.builtin == "GATHER" else ()
        for tensor in (*operator.outputs, *tables):
            unpacked = tensor.constant and operator.builtin == "DEQUANTIZE"
            if len(tensor.shape) <= 4 and -1 not in tensor.shape and not unpacked:
                yield operator, tensor


def _bhwc(tensor: Tensor) -> tuple[int, int, int, int]:
    sizes = tensor.shape
    if len(sizes) == 4:
        return sizes
    batch, *rest = sizes if len(sizes) > 1 else (1, *(sizes or (1,)))
    width, channels = rest if len(rest) == 2 else (1, rest[0])
    return batch, 1, width, channels


def _slices(channels: int) -> int:
    return -(-channels // _VECTOR)


def _fits_image(tensor: Tensor, gpu: GpuClass) -> bool:
    batch, height, width, channels = _bhwc(tensor)
    slices = _slices(channels)
    if batch * width > gpu.image:
        return False
    return height * slices <= gpu.image or (height <= gpu.image and slices <= gpu.layers)


def _fits_buffer(tensor: Tensor, gpu: GpuClass) -> bool:
    return _size(tensor) <= gpu.buffer


def _size(tensor: Tensor) -> int:
    batch, height, width, channels = _bhwc(tensor)
    return batch * height * width * _slices(channels) * _VECTOR * _BYTES


def _describe(tensor: Tensor) -> str:
    batch, height, width, channels = _bhwc(tensor)
    image = f"{batch * width:,} x {height * _slices(channels):,}"
    return f"{image} pixels or {_size(tensor) / 2**20:,.0f} MiB"
