"""What can be trained: a job joins a network, an objective and data, built from a config."""

from typing import Any

from tfsnap.training.jobs.autoencoder import AutoencoderJob
from tfsnap.training.jobs.clip import ClipJob
from tfsnap.training.jobs.decoder import DecoderJob
from tfsnap.training.jobs.unet import UNetJob

AnyJob = AutoencoderJob | ClipJob | DecoderJob | UNetJob
JOBS: dict[str, type[AnyJob]] = {
    "autoencoder": AutoencoderJob,
    "clip": ClipJob,
    "decoder": DecoderJob,
    "unet": UNetJob,
}


def job_from_dict(values: dict[str, Any]) -> AnyJob:
    """Builds a job from a config's values: the job's own and its `part`, a name of `JOBS`.

    Raises:
      ValueError: the part or a field is unknown, or a value is out of range.
    """
    part = values.get("part")  # Configs of other programs have none.
    if part not in JOBS:
        raise ValueError(f"config.part is {part!r}; it must be one of {', '.join(JOBS)}")
    return JOBS[part].from_dict({name: v for name, v in values.items() if name != "part"})
