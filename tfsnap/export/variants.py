"""A model at each of the sizes of picture that a bundle is to draw."""

import dataclasses
from collections.abc import Mapping, Sequence

from tfsnap.export.graphs import Graph, component_graphs
from tfsnap.export.keras_components import InTurn
from tfsnap.export.skeleton import skeleton_of
from tfsnap.models.latent_diffusion import LatentDiffusion
from tfsnap.runtime.interpreter import SIGNATURE
from tfsnap.runtime.sizes import Size, is_sized
from tfsnap.weights.lazy import LazyTensor


@dataclasses.dataclass(frozen=True)
class Variant:
    """The model at one size.

    Attributes:
      size: of the pictures and latents.
      model: the model, of that resolution.
      signature: of the networks that depend on the size.
      graphs: of the networks, by name.
      reference: what the converted networks are compared with; one is in memory at a time.
    """

    size: Size
    model: LatentDiffusion
    signature: str
    graphs: dict[str, Graph]
    reference: InTurn


def variants_of(
    model: LatentDiffusion,
    shapes: Sequence[tuple[int, int]],
    *,
    contexts: int,
    values: Mapping[str, LazyTensor] | None = None,
) -> list[Variant]:
    """Returns a model at several sizes, the default first.

    Args:
      model: the model.
      shapes: heights and widths of pictures, in pixels; none means the model's own.
      contexts: how many of them the UNet takes at once.
      values: see `tfsnap.export.graphs.component_graphs`.

    Raises:
      ValueError: a shape is there twice, or its latents do not fit the networks.
    """
    shapes = [tuple(shape) for shape in shapes] or [model.resolution]
    if len(set(shapes)) < len(shapes):
        raise ValueError(f"--shape is given twice for one of {shapes}: leave the second out")
    return [
        _variant(model, shape, contexts, values, default=shape == shapes[0]) for shape in shapes
    ]


def keras_networks(graphs: dict[str, Graph]) -> InTurn:
    """The networks in float32, of which one is in memory at a time."""
    return InTurn(graphs, lambda name: skeleton_of(graphs[name]).loaded())


def conversions_of(variants: Sequence[Variant], name: str) -> list[Variant]:
    """The variants that a component is converted for: the default alone if size is no matter."""
    sized = any(is_sized(tensor) for tensor in variants[0].graphs[name].inputs)
    return list(variants) if sized else list(variants[:1])


def _variant(
    model: LatentDiffusion,
    shape: tuple[int, int],
    contexts: int,
    values: Mapping[str, LazyTensor] | None,
    *,
    default: bool,
) -> Variant:
    cell = model.autoencoder.config.downsampling
    for side in shape:
        if side < 1 or side % cell:
            raise ValueError(
                f"--shape is {shape[0]}x{shape[1]}; both sides must be positive multiples of "
                f"{cell} pixels"
            )
    resized = dataclasses.replace(model, resolution=shape)
    graphs = component_graphs(resized, values, contexts=contexts)
    size = Size(*shape, resized.latent_shape)
    signature = SIGNATURE if default else size.name
    return Variant(size, resized, signature, graphs, keras_networks(graphs))
