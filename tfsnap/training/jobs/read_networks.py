"""The finished networks that a run reads: that they are, when it goes on, what they were."""

import json
import pathlib
from collections.abc import Mapping
from typing import Any

from tfsnap.checksum import file_sha256_once
from tfsnap.config import Config, write_json
from tfsnap.training.trainer import TrainingError

NETWORKS = "networks.json"  # In a workdir.
_FIELDS = ("autoencoder", "clip", "unet", "distill.teacher", "lora.base")


def require_same_networks(
    workdir: pathlib.Path, *jobs: Config, also: Mapping[str, Any] | None = None
) -> None:
    """Notes what the weight files of a job's networks hold, or compares with what was noted.

    A network that was trained on in the meantime has the same name and another meaning: a UNet
    whose autoencoder has other latents goes wrong without a word. Files that are not there are not
    looked at: training from a cache of latents needs none.

    Args:
      workdir: folder of the run.
      *jobs: whose networks.
      also: what other files say that a run goes by, JSON values by their names.

    Raises:
      TrainingError: a file is not what it was when the run began.
      OSError: a file cannot be read, or the note not be written.
    """
    path = workdir / NETWORKS
    before = json.loads(path.read_text()) if path.is_file() else {}
    now = {name: file_sha256_once(name) for job in jobs for name in _files(job)}
    now |= also or {}
    changed = sorted(name for name in now.keys() & before.keys() if now[name] != before[name])
    if changed:
        raise TrainingError(
            f"{' and '.join(changed)} changed since {workdir} began: put back what it was, or "
            "use another --workdir"
        )
    if now.keys() - before.keys():
        write_json(path, {**before, **now})


def _files(job: Config) -> list[str]:
    """The weight files that a job names and that are there."""
    names = []
    for field in _FIELDS:
        value = job
        for part in field.split("."):
            value = getattr(value, part, "")
        if value and pathlib.Path(value).is_file():
            names.append(value)
    return names
