"""The flag that gives a UNet's training another shape."""

from absl import flags

from tfsnap.models.presets import find_unet
from tfsnap.training.jobs import UNetJob
from tfsnap.training.trainer import Job


def unet_flag() -> flags.FlagHolder[str | None]:
    """Defines --unet."""
    return flags.DEFINE_string(
        "unet",
        None,
        "Shape of the UNet in place of config.model: a preset's name, or a JSON file such as the "
        "unet.json of tools/evolve.py. It reads the guidance scale if either says so.",
    )


def with_unet(job: Job, unet: str | None) -> Job:
    """The job with the UNet that --unet names instead of its config's; as it is without one.

    Raises:
      ValueError: the job trains no UNet, or there is no such UNet.
      OSError: the file cannot be read.
    """
    if not unet:
        return job
    if not isinstance(job, UNetJob):
        raise ValueError(f"--unet is for configs of UNets; this one trains the {job.label}")
    model = find_unet(unet)
    width = model.guidance_width or job.model.guidance_width
    return job.replace(model=model.replace(guidance_width=width))
