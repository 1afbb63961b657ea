"""One network's weights on their way from one layout to another."""

import dataclasses
import json
import math
from collections.abc import Callable, Iterable
from typing import Any, TypeVar

from tfsnap.config import (
    DESCRIPTION_ERRORS,
    AutoencoderConfig,
    ClipConfig,
    ClipTextConfig,
    Config,
    UNetConfig,
)
from tfsnap.weights.lazy import LazyTensor
from tfsnap.weights.names import autoencoder, clip, text_encoder, unet
from tfsnap.weights.names.table import Row, match
from tfsnap.weights.tensors import WeightFileError, WeightMismatchError

C = TypeVar("C", bound=Config)

UNET, AUTOENCODER, TEXT_ENCODER = NETWORKS = ("unet", "autoencoder", "text_encoder")
CLIP = "clip"  # Both towers, which score pictures; no part of a Stable Diffusion.

CONFIGS: dict[str, type[Config]] = {
    UNET: UNetConfig,
    AUTOENCODER: AutoencoderConfig,
    TEXT_ENCODER: ClipTextConfig,
    CLIP: ClipConfig,
}
_ROWS: dict[str, Callable[[Any], list[Row]]] = {
    UNET: unet.unet_rows,
    AUTOENCODER: autoencoder.autoencoder_rows,
    TEXT_ENCODER: text_encoder.text_encoder_rows,
    CLIP: clip.clip_rows,
}


@dataclasses.dataclass(frozen=True)
class Component:
    """A network's config and tensors, in the layout of tfsnap's store.

    Attributes:
      network: "unet", "autoencoder", "text_encoder" or "clip".
      config: what builds it.
      about: further JSON values of its description, such as the UNet's parametrisation.
      tensors: by address; none is in memory.
      notes: what was presumed, as lines for the user.
    """

    network: str
    config: Config
    about: dict[str, Any]
    tensors: dict[str, LazyTensor]
    notes: tuple[str, ...] = ()

    @property
    def rows(self) -> list[Row]:
        """The name table of the network."""
        return _ROWS[self.network](self.config)

    @property
    def parameters(self) -> int:
        """How many numbers the tensors hold."""
        return sum(math.prod(tensor.shape) for tensor in self.tensors.values())

    def metadata(self) -> dict[str, str]:
        """The description that `tfsnap.weights.archive.load_trained` reads, as header strings."""
        values = {"network": self.network, "config": self.config.to_dict(), **self.about}
        return {key: json.dumps(value) for key, value in values.items()}


def read_config(source: object, kind: type[C], values: Any) -> C:
    """Builds a config from a file's description.

    Args:
      source: the file, for the message.
      kind: the config's type.
      values: JSON.

    Raises:
      WeightFileError: the values make none.
    """
    try:
        return kind.from_dict(values)
    except DESCRIPTION_ERRORS as error:
        raise damaged(source, f"no {kind.__name__} can be made of it ({error})") from error


def damaged(source: object, why: object) -> WeightFileError:
    """The error that a file's description cannot be read, with the field and its value."""
    return WeightFileError(f"{source}: its description is damaged, or a newer tfsnap's: {why}")


class Report:
    """Collects everything that is wrong with a source, for one error."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def add(self, where: str, lines: Iterable[str]) -> None:
        """Adds lines about one part of the source."""
        self.lines += [f"{where}: {line}" for line in lines]

    def check(self, source: object) -> None:
        """Raises what was collected.

        Raises:
          WeightMismatchError: anything was.
        """
        if self.lines:
            listed = "\n  ".join(self.lines)
            raise WeightMismatchError(f"{source} cannot be converted:\n  {listed}")

    def component(
        self,
        network: str,
        config: Config,
        found: dict[str, LazyTensor],
        *,
        name: Callable[[Row], str],
        torch: bool = True,
        about: dict[str, Any] | None = None,
    ) -> Component:
        """Matches a file's tensors with a network's table and collects the differences.

        Args:
          network: which network.
          config: what builds it.
          found: the file's tensors that can only be this network's.
          name: which column of the table names them.
          torch: whether they have PyTorch's order of axes.
          about: see `Component`.

        Returns:
          The component, complete only if `check` passes.
        """
        tensors, lines = match(_ROWS[network](config), found, name=name, torch=torch)
        self.add(network, lines)
        return Component(network, config, about or {}, tensors)
