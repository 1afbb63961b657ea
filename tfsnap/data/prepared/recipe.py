"""What is done with pictures when a set is prepared."""

import dataclasses
import hashlib

from tfsnap.config import Config
from tfsnap.data.prepared.decode import decode
from tfsnap.data.prepared.framing import Shape, bucket_shapes, frame, nearest_shape
from tfsnap.data.readers.entry import Entry, UnusableError

TRAIN, VALIDATION = SPLITS = ("train", "validation")
_NO_FILE = "file cannot be read"
_SALT = "tfsnap split 1"


@dataclasses.dataclass(frozen=True)
class Recipe(Config):
    """How a picture is made ready.

    Attributes:
      resolution: side of the squares, in pixels; with buckets every shape has about their area.
      buckets: whether a picture is made to the shape nearest to its own, or to a square.
      bucket_step: sides of buckets are its multiples; 0 for an eighth of the resolution.
      min_size: pictures with a shorter side than this, in pixels, are skipped; 0 for half the
        resolution.
      validation: share of the pictures that are kept from training, by hashes of their names.
    """

    resolution: int = 64
    buckets: bool = False
    bucket_step: int = 0
    min_size: int = 0
    validation: float = 0.05

    def __post_init__(self) -> None:
        self._require(8 <= self.resolution <= 4096, "resolution", "from 8 to 4096 pixels")
        self._require(self.bucket_step >= 0, "bucket_step", "a multiple of 8, or 0")
        self._require(self.min_size >= 0, "min_size", "at least 0")
        self._require(0 < self.validation < 1, "validation", "above 0 and below 1")
        _ = self.shapes  # Raises what is wrong with them.

    @property
    def shapes(self) -> tuple[Shape, ...]:
        """All shapes that pictures are made to."""
        if self.buckets:
            return bucket_shapes(self.resolution, self.bucket_step)
        return ((self.resolution, self.resolution),)

    def split(self, name: str) -> str:
        """The split of the picture with this name."""
        digest = hashlib.sha256(f"{_SALT}/{name}".encode()).digest()
        share = int.from_bytes(digest[:8], "big") / 2**64
        return VALIDATION if share < self.validation else TRAIN

    def make(self, entry: Entry) -> "Made":
        """Reads, decodes, crops and resizes a picture. Threads may do so at the same time."""
        shapes = self.shapes
        least, most = self.min_size or self.resolution // 2, max(map(max, shapes))
        try:
            image = decode(entry.read(), min_size=least, side=most)
        except UnusableError as error:
            return Made(skipped=str(error))
        except OSError:
            return Made(skipped=_NO_FILE)
        shape = nearest_shape(image.size, shapes)
        return Made(shape=shape, pixels=frame(image, shape).tobytes())


@dataclasses.dataclass(frozen=True)
class Made:
    """What became of a picture.

    Attributes:
      shape: its height and width, None where it was skipped.
      pixels: uint8 [height, width, 3] as bytes.
      skipped: why, "" where it was not.
    """

    shape: Shape | None = None
    pixels: bytes = b""
    skipped: str = ""
