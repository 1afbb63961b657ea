"""The sizes of picture that one bundle draws."""

import dataclasses
import numbers
import re
from collections.abc import Sequence

from tfsnap.config import Config
from tfsnap.runtime.errors import RequestError, shown

_LATENTS, _IMAGES = ("latent", "prediction"), ("image",)  # Names of the tensors that depend on it.


@dataclasses.dataclass(frozen=True)
class Size(Config):
    """One size.

    Attributes:
      height: of the picture, in pixels.
      width: of the picture, in pixels.
      latent: height, width and channels of its latent.
    """

    height: int
    width: int
    latent: tuple[int, ...]

    def __post_init__(self) -> None:
        self._require(self.height > 0, "height", "positive")
        self._require(self.width > 0, "width", "positive")
        valid = len(self.latent) == 3 and min(self.latent) > 0
        self._require(valid, "latent", "height, width and channels, all positive")

    @property
    def name(self) -> str:
        """As people write it, "512x768": height, then width."""
        return f"{self.height}x{self.width}"

    def adapt(self, tensor: str, shape: tuple[int, ...]) -> tuple[int, ...]:
        """The shape that a network's tensor of some name has for this size."""
        if tensor in _LATENTS:
            return (shape[0], *self.latent)
        if tensor in _IMAGES:
            return (shape[0], self.height, self.width, shape[-1])
        return shape


def is_sized(tensor: str) -> bool:
    """Whether a tensor's shape depends on the size of the picture."""
    return tensor in (*_LATENTS, *_IMAGES)


def parse_size(text: str) -> tuple[int, int]:
    """Height and width of "512x768"; "512" is a square.

    Raises:
      RequestError: the text is something else.
    """
    found = re.fullmatch(r"([1-9]\d{0,5})(?:x([1-9]\d{0,5}))?", text)
    if found is None:
        raise RequestError(
            f"The size is {text!r}; it must be HEIGHTxWIDTH, as 512x768, or one number for a square"
        )
    return int(found[1]), int(found[2] or found[1])


def height_and_width(size: int | Sequence[int]) -> tuple[int, int]:
    """Height and width of a size as programs give it; a number is a square.

    Raises:
      RequestError: it is something else.
    """
    pair = (size, size) if isinstance(size, numbers.Integral) else size
    valid = isinstance(pair, Sequence) and len(pair) == 2
    if not valid or not all(isinstance(side, numbers.Integral) for side in pair):
        raise RequestError(
            f"size is {shown(size)}; it must be (height, width) in pixels, or one number for a "
            "square"
        )
    return int(pair[0]), int(pair[1])


def check_sizes(
    sizes: tuple[Size, ...], *, latent: tuple[int, ...], image: tuple[int, ...]
) -> None:
    """Checks the sizes of a manifest.

    Args:
      sizes: all of them.
      latent: the default latent's height, width and channels.
      image: the default picture's, as the decoder's contract says.

    Raises:
      ValueError: the first is not the default, two are equal, or one has another ratio of picture
        to latent.
    """
    height, width, _ = image
    default = Size(height, width, tuple(latent))
    if not sizes or sizes[0] != default:
        raise ValueError(f"sizes must begin with the default, {default}")
    names = [size.name for size in sizes]
    if len(set(names)) < len(names):
        raise ValueError(f"sizes has one twice: {', '.join(names)}")
    for size in sizes:
        scaled = (size.height * latent[0], size.width * latent[1], latent[2])
        if (height * size.latent[0], width * size.latent[1], size.latent[2]) != scaled:
            raise ValueError(
                f"sizes: the latent of {size.name} is {list(size.latent)}; the default's ratio of "
                f"picture to latent must hold, {default.name} to {list(latent)}"
            )
