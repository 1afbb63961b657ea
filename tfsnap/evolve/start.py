"""What a search looks at before its first round, as its config cannot be mended after that."""

from collections.abc import Mapping
from typing import Any

from tfsnap.config import UNetConfig, differences
from tfsnap.evolve.config import EvolveConfig
from tfsnap.models.latent_diffusion import Distilled
from tfsnap.training.jobs.unet import UNetJob


def require_start(config: EvolveConfig, shape: UNetConfig, about: Mapping[str, Any]) -> None:
    """Looks at the start network's description: a round is too short to make it another kind.

    Args:
      config: of the search.
      shape: of the network in `config.unet`.
      about: the rest of that file's description.

    Raises:
      ValueError: robust training does not go on with a network of this kind.
    """
    job, distilled = config.robust, Distilled.of(about)
    if job.lora.rank or job.distill.baked:
        raise ValueError(
            f"config.robust has lora.rank={job.lora.rank} and distill.baked={job.distill.baked}: "
            "a search trains a whole UNet, which takes guidance as it is scored, so 0 and False"
        )
    wanted = {"prediction": job.prediction, "schedule": job.schedule.to_dict()}
    changed = differences({name: about.get(name, wanted[name]) for name in wanted}, wanted)
    if changed:
        raise ValueError(f"{config.unet} is not what config.robust trains: {'; '.join(changed)}")
    if distilled and distilled.guidance is not None:
        raise ValueError(
            f"guidance is baked into {config.unet}, and robust training learns from data: search "
            "from the network that it was distilled from"
        )
    taught = job.distill.teacher or config.guidance == 1.0
    if shape.guidance_width is not None and not taught:
        raise ValueError(
            f"{config.unet} reads the guidance scale, and would be scored at guidance="
            f"{config.guidance} after robust training without a teacher, which shows it 1 only: "
            "name its teacher in config.robust.distill, or search from the network that it was "
            "distilled from"
        )


def require_scoring(job: UNetJob, split: str) -> None:
    """Looks at what edits are scored with, which robust training does without.

    Args:
      job: the robust training, whose networks and data are those of the scoring.
      split: whose captions are the prompts.

    Raises:
      ValueError: CLIP is its text tower alone, or the data has no such split of square pictures.
    """
    if job.trained_clip is None:
        raise ValueError(
            f"{job.clip} holds a text encoder alone; edits are scored by CLIP's image tower: name "
            "a weight file of both towers in config.robust.clip"
        )
    job.captioned(split)
