"""Trains one part of a text-to-image model.

    tools/train.py --config=configs/emoji/autoencoder.py --workdir=runs/autoencoder
    tools/train.py --config=configs/emoji/unet.py --workdir=runs/unet --config.training.steps=500

Run the same command again to go on where it stopped. Any field of the config can be given on the
command line; the resolved config is saved as `config.json` in the workdir.
"""

import pathlib
import sys

from absl import app, flags, logging
from ml_collections import config_flags

# Programs are run from anywhere: the repository's root holds `configs` and `tools`.
sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))

from tfsnap.data.fetch import FetchError
from tfsnap.training.jobs import job_from_dict
from tfsnap.training.memory import keep_freed_memory
from tfsnap.training.strategy import make_strategy
from tfsnap.training.trainer import Trainer, TrainingError, save_config
from tfsnap.weights.store import WeightFileError, WeightMismatchError

_CONFIG = config_flags.DEFINE_config_file("config", None, "What to train: a file in configs/.")
_WORKDIR = flags.DEFINE_string("workdir", None, "Folder of the run: checkpoints, logs, weights.")
_STRATEGY = flags.DEFINE_enum(
    "strategy", "one", ["one", "mirrored"], "One device, or every device of this machine."
)


def main(argv: list[str]) -> None:
    if len(argv) > 1:
        raise app.UsageError(f"unexpected argument {argv[1]!r}")
    logging.set_verbosity(logging.WARNING)  # TFDS reports every file it reads.
    keep_freed_memory()
    values = _CONFIG.value.to_dict()
    workdir = pathlib.Path(_WORKDIR.value)
    try:
        job = job_from_dict(values)
        save_config(workdir, {"part": values["part"], **job.to_dict()})
        weights = Trainer(job, workdir=workdir, strategy=make_strategy(_STRATEGY.value)).fit()
    except (FetchError, TrainingError, WeightFileError, WeightMismatchError, ValueError) as error:
        sys.exit(f"train: {error}")
    print(f"Weights: {weights}")


if __name__ == "__main__":
    flags.mark_flags_as_required(["config", "workdir"])
    app.run(main)
