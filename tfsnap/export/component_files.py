"""The files of a component: its conversions for several sizes merged, and split in chunks."""

from collections.abc import Mapping

from tfsnap.export.chunks import split
from tfsnap.export.packing import pack, unpack
from tfsnap.export.shared_weights import merge


def component_files(conversions: Mapping[str, bytes], *, chunks: int = 1) -> list[bytes]:
    """Returns the contents of a component's files, in the order in which they run.

    Args:
      conversions: flatbuffers by signature, the default first; the weights are there once.
      chunks: number of files. Each has every signature.

    Raises:
      ValueError: a network has fewer operators than there are to be chunks.
    """
    if len(conversions) == chunks == 1:
        return list(conversions.values())
    parts = {key: split(unpack(content), chunks) for key, content in conversions.items()}
    return [pack(merge({key: part[i] for key, part in parts.items()})) for i in range(chunks)]
