"""The files of a component: its conversions for several sizes merged, and split in chunks."""

from collections.abc import Mapping

from tfsnap.export.chunks import split
from tfsnap.export.flatbuffer import ConvertedModel
from tfsnap.export.shared_weights import merge


def component_files(
    conversions: Mapping[str, ConvertedModel], *, chunks: int = 1
) -> list[ConvertedModel]:
    """Returns a component's files, to be written in the order in which they run.

    Args:
      conversions: models by signature, the default first; the weights are there once.
      chunks: number of files. Each has every signature.

    Raises:
      ValueError: a network has fewer operators than there are to be chunks.
    """
    if len(conversions) == chunks == 1:
        return list(conversions.values())
    parts = {key: split(model, chunks) for key, model in conversions.items()}
    return [merge({key: part[i] for key, part in parts.items()}) for i in range(chunks)]
