"""Runs on disk: the config that a workdir was started with, and the model it holds at the end."""

import json
import os
import pathlib
from collections.abc import Sequence
from typing import Any

from tfsnap.config import Config, differences, write_json
from tfsnap.lock import LOCK
from tfsnap.models.latent_diffusion import LatentDiffusion
from tfsnap.training.checkpoint import CHECKPOINTS, CheckpointFolder
from tfsnap.training.config import MAY_CHANGE
from tfsnap.training.jobs import JOBS, AnyJob, job_from_dict
from tfsnap.training.jobs.read_networks import NETWORKS
from tfsnap.training.jobs.unet import UNetJob
from tfsnap.training.lora import merge
from tfsnap.training.trainer import WEIGHTS, TrainingError
from tfsnap.weights.archive import load_trained, read_distilled
from tfsnap.weights.store import WeightFileError, load_tensors

_CONFIG = "config.json"


def save_config(workdir: pathlib.Path, job: AnyJob) -> None:
    """Writes the resolved config as `config.json`, or checks that it is the one of this workdir.

    A run that was started before a field existed counts as started with the field's default. A
    run that ended before its first checkpoint has nothing to lose: another config takes its place.
    The fields of `MAY_CHANGE`, above all the number of steps, may change at any time: a run that
    goes on to another number of steps takes the learning rate of the new length.

    Raises:
      TrainingError: the workdir was started with another config; the message names the fields.
      WeightFileError: its config cannot be read.
    """
    old = _to_dict(load_job(workdir)) if is_run(workdir) else None
    new = _to_dict(job)
    if not _is_begun(workdir):
        (workdir / NETWORKS).unlink(missing_ok=True)  # Nor is it bound to what it was to read.
    elif old:
        open_fields = {field: new["training"][field] for field in MAY_CHANGE}
        _require_equal(workdir, {**old, "training": {**old["training"], **open_fields}}, new)
    if old != new:
        _write_config(workdir, new)


def require_same_config(
    workdir: pathlib.Path, config: Config, *, may_change: Sequence[str] = ()
) -> None:
    """As `save_config`, for what is no job.

    It has begun once there is anything beside its config and the note of what it reads; until then
    it may read something else.

    Args:
      workdir: the folder.
      config: what it is for.
      may_change: fields that another value may be given for when it goes on.

    Raises:
      TrainingError: the workdir was started with another config; the message names the fields.
      WeightFileError: its config cannot be read.
    """
    notes, new = (_CONFIG, NETWORKS, LOCK), config.to_dict()
    if is_run(workdir) and any(path.name not in notes for path in workdir.iterdir()):
        try:
            old = type(config).from_dict(json.loads((workdir / _CONFIG).read_text())).to_dict()
        except (AttributeError, OSError, TypeError, ValueError) as error:
            raise WeightFileError(
                f"{workdir / _CONFIG} is no config of this program ({error}); use another --workdir"
            ) from error
        _require_equal(workdir, {**old, **{field: new[field] for field in may_change}}, new)
    else:
        (workdir / NETWORKS).unlink(missing_ok=True)
    _write_config(workdir, new)


def _require_equal(workdir: pathlib.Path, old: dict[str, Any], new: dict[str, Any]) -> None:
    if old.get("part") != new.get("part"):
        raise TrainingError(
            f"{workdir} holds a run of {old.get('part')}, and this is one of {new.get('part')}: "
            "use another --workdir"
        )
    changed = differences(old, new)
    if changed:
        raise TrainingError(
            f"{workdir} was started with another config: {'; '.join(changed)}. "
            "Use another --workdir, or the same config"
        )


def _write_config(workdir: pathlib.Path, config: dict[str, Any]) -> None:
    workdir.mkdir(parents=True, exist_ok=True)
    write_json(workdir / _CONFIG, config)


def _is_begun(workdir: pathlib.Path) -> bool:
    checkpoints = CheckpointFolder(workdir / CHECKPOINTS, keep=1)
    return bool(checkpoints.steps()) or (workdir / WEIGHTS).is_file()


def is_run(folder: pathlib.Path) -> bool:
    """Whether a folder is the workdir of a run."""
    return (folder / _CONFIG).is_file()


def is_finished(folder: pathlib.Path) -> bool:
    """Whether a folder is the workdir of a run that wrote its weights, and was not made longer.

    Raises:
      WeightFileError: its config cannot be read.
    """
    if not (is_run(folder) and (folder / WEIGHTS).is_file()):
        return False
    return _unfinished_step(folder, load_job(folder)) is None


def _unfinished_step(folder: pathlib.Path, job: AnyJob) -> int | None:
    """How far a run came that has steps to do; None if it has none, or kept no checkpoint.

    A finished run whose `training.steps` was raised has the weights of the shorter one.
    """
    steps = CheckpointFolder(folder / CHECKPOINTS, keep=1).steps()
    return steps[-1] if steps and steps[-1] < job.training.steps else None


def require_finished(workdir: str | os.PathLike, job: AnyJob) -> pathlib.Path:
    """The weight file of a run that trains `job`, once it has done all of its steps.

    Raises:
      WeightFileError: the run is not finished.
    """
    weights = pathlib.Path(workdir) / WEIGHTS
    if not weights.is_file():
        raise WeightFileError(
            f"{workdir} is not finished, it has no {WEIGHTS}: run the same tools/train.py again"
        )
    done = _unfinished_step(weights.parent, job)
    if done is not None:
        raise WeightFileError(
            f"{workdir} is not finished: its config says {job.training.steps} steps and its newest "
            f"checkpoint is of step {done}. Run the same tools/train.py again; its {WEIGHTS} are "
            "those of a shorter run"
        )
    return weights


def load_job(workdir: str | os.PathLike) -> AnyJob:
    """Reads what a run trains.

    Raises:
      WeightFileError: the folder is not that of a run.
    """
    try:
        return job_from_dict(json.loads((pathlib.Path(workdir) / _CONFIG).read_text()))
    except (OSError, AttributeError, KeyError, TypeError, ValueError) as error:
        raise WeightFileError(
            f"{workdir} is no run of tools/train.py: its {_CONFIG} cannot be read ({error})"
        ) from error


def load_unet_job(workdir: str | os.PathLike) -> UNetJob:
    """Reads what a UNet's run trains.

    Raises:
      WeightFileError: the folder is not that of a UNet's run.
    """
    job = load_job(workdir)
    if not isinstance(job, UNetJob):
        raise WeightFileError(f"{workdir} trained the {_part(job)}; the UNet's run is wanted")
    return job


def load_finished(workdir: str | os.PathLike) -> LatentDiffusion:
    """Loads a finished UNet run together with the autoencoder and CLIP that it was trained on.

    Args:
      workdir: folder of the UNet's run.

    Raises:
      WeightFileError: the run is not finished, or a weight file is missing or damaged; relative
        paths in its config are looked for where the program is run.
    """
    job = load_unet_job(workdir)
    weights = require_finished(workdir, job)
    _require_there(workdir, {**job.weights, "lora.base": job.lora.base})
    if job.lora.rank:
        base, (tensors, about) = job.lora_base(), load_tensors(weights)
        made_for = read_distilled(weights, about) or read_distilled(job.lora.base, base.about)
        return job.assemble(merge(base.model, tensors, job.lora), made_for)
    found = load_trained(weights, "unet")
    _require_like_config(weights, job, found.about)
    return job.assemble(found.model, read_distilled(weights, found.about))


def _require_like_config(weights: pathlib.Path, job: UNetJob, about: dict[str, Any]) -> None:
    """A portable run is not tied to the config that it is finished with: its weights are."""
    mine = {"prediction": job.prediction, "schedule": job.schedule.to_dict()}
    changed = differences({field: about.get(field, mine[field]) for field in mine}, mine)
    if changed:
        raise WeightFileError(
            f"{weights} was trained with another config than its folder has: {'; '.join(changed)}"
        )


def _require_there(workdir: str | os.PathLike, files: dict[str, str]) -> None:
    """Tells what relative paths of a run's config are relative to, where one leads nowhere."""
    for field, name in files.items():
        path = pathlib.Path(name)
        if name and not path.is_absolute() and not path.is_file():
            raise WeightFileError(
                f"{pathlib.Path(workdir) / _CONFIG} says that {field} is {name}, and there is none "
                f"in {pathlib.Path.cwd()}: paths in it are relative to the folder that programs "
                f"are run in, so run this one in the folder that has {path.parts[0]}/"
            )


def _to_dict(job: AnyJob) -> dict[str, Any]:
    return {"part": _part(job), **job.to_dict()}


def _part(job: AnyJob) -> str:
    return next(part for part, kind in JOBS.items() if type(job) is kind)
