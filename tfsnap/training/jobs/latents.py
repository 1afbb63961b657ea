"""What a UNet learns from: latents and captions of pictures, in memory or in a cache on disk.

A cache is a folder of four `ShardedTables`, written by `tfsnap.training.jobs.encoding`. A row on
disk is what one example of a batch needs, so that a batch reads nothing that it does not use:

  moments/   row i * A + a: `moments` [h, w, 2c] of augmentation a of picture i; a = 0 is as it is
  captions/  row i * V + v: `tokens` [T] of caption v of picture i, and `context` [T, C]
  groups/    row i: `group`, which the sampling of examples goes by
  empty/     one row: `tokens` and `context` of the empty caption
"""

import dataclasses
import os
import pathlib
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from tfsnap.checksum import file_sha256_once
from tfsnap.config import differences
from tfsnap.data.catalogue import EMOJI_VERSION
from tfsnap.data.examples import DATASETS
from tfsnap.data.shards import ShardedTables, ShardError
from tfsnap.data.tables import Table, stored_tables
from tfsnap.training.jobs.inputs import DataConfig

PARTS = ("moments", "captions", "groups", "empty")
_KIND = "tfsnap latents"
_REMEDY = "use its config, or another folder: tools/prepare_data.py --config=... --latents=..."


@dataclasses.dataclass(frozen=True, eq=False)
class Latents:
    """The training examples of a UNet.

    Attributes:
      moments: means and log-variances of latents, float [N, A, h, w, 2c], A augmentations of each.
      captions: `tokens`, int32 [N, V, T], V captions of each; perhaps `context`, float
        [N, V, T, C], what the text encoder makes of them.
      empty: one row of each of `captions`, for the empty caption.
      groups: int32 [N], which the sampling of examples goes by.
      scale: the latent's scale factor.
    """

    moments: Table
    captions: Mapping[str, Table]
    empty: Mapping[str, np.ndarray]
    groups: np.ndarray
    scale: float

    @property
    def condition(self) -> str:
        """The table of captions that training reads: the ready one, if there is one."""
        return "context" if "context" in self.captions else "tokens"

    def canonical(self, rows: np.ndarray) -> np.ndarray:
        """Tokens of the first caption of some examples, int32 [K, T]."""
        tokens = self.captions["tokens"]
        if isinstance(tokens, np.ndarray):
            return tokens[rows, 0]
        return tokens.shards.read(rows * tokens.variants)["tokens"]


def facts(
    data: DataConfig, *, augmentations: int, weights: Mapping[str, str | os.PathLike]
) -> dict[str, Any]:
    """What a cache depends on, as JSON values; two caches with the same facts are the same.

    Args:
      data: the pictures and captions. How often they are drawn does not matter to a cache, nor how
        they are augmented unless they are.
      augmentations: A.
      weights: the weight files by network.

    Raises:
      OSError: a file cannot be read.
    """
    settings = data.to_dict()
    del settings["resample"]
    if augmentations == 1:
        del settings["augment"]
    if data.dataset in DATASETS:
        settings["version"] = EMOJI_VERSION
    digests = {network: file_sha256_once(path) for network, path in weights.items()}
    return {"kind": _KIND, "data": settings, "weights": digests}


def open_latents(
    folder: str | os.PathLike,
    *,
    data: DataConfig,
    context_width: int,
    weights: Mapping[str, str | os.PathLike],
    tokens: Callable[[], list[int]],
) -> Latents:
    """Opens a cache that was made for a job.

    Args:
      folder: the cache.
      data: the job's pictures.
      context_width: width of the context that the network expects.
      weights: the job's weight files by network; those that are not there are not compared, and
        neither are those that the cache does not depend on.
      tokens: gives how the job writes captions as tokens: their number, the vocabulary's size, and
        what fills a row. Asked where a cache holds tokens only, which do not depend on CLIP's
        weights.

    Raises:
      ShardError: there is no finished cache, or it was made from something else.
    """
    parts = _open_parts(pathlib.Path(folder))
    about = parts["moments"].about
    there = {name: weights[name] for name in about["weights"] if os.path.isfile(weights[name])}
    wanted = facts(data, augmentations=about["augmentations"], weights=there)
    wanted["context"] = [about["context"][0], context_width]
    found = {
        "kind": about["kind"],
        "data": about["data"],
        "weights": {network: about["weights"][network] for network in there},
        "context": about["context"],
    }
    if not about["embeddings"]:
        wanted["tokens"], found["tokens"] = tokens(), about.get("tokens")
    changed = differences(found, wanted)
    if changed:
        raise ShardError(
            f"{folder} was made from something else than the config says: {'; '.join(changed)}; "
            f"{_REMEDY}"
        )
    row = parts["empty"].read(np.array([0]))
    return Latents(
        moments=stored_tables(parts["moments"], variants=about["augmentations"])["moments"],
        captions=stored_tables(parts["captions"], variants=about["variants"]),
        empty={name: table[0] for name, table in row.items()},
        groups=parts["groups"].table("group"),
        scale=about["scale"],
    )


def _open_parts(folder: pathlib.Path) -> dict[str, ShardedTables]:
    if not folder.is_dir():
        raise ShardError(
            f"{folder}: no such cache of latents; make it with tools/prepare_data.py --config=... "
            f"--latents={folder}"
        )
    parts = {part: ShardedTables(folder / part) for part in PARTS}
    about = parts["moments"].about
    if about.get("kind") != _KIND or any(part.about != about for part in parts.values()):
        raise ShardError(
            f"{folder} is no cache of latents, or put together from several; {_REMEDY}"
        )
    return parts
