"""A search with networks that nobody trained, of which scores are made up: nothing is drawn."""

import itertools
import json
import shutil

import numpy as np
import tf_keras as keras

from tests.evolve.test_actions import CONFIG
from tests.training.latent_job import AUTOENCODER, CLIP, LENGTH, SIDE, job_of
from tests.training.tiny_job import shared_strategy
from tfsnap.config import ScheduleConfig
from tfsnap.data.examples import Examples
from tfsnap.evolve.actions import REMOVE, possible
from tfsnap.evolve.config import EvolveConfig
from tfsnap.evolve.evolver import Evolver
from tfsnap.evolve.latency import LatencyTable
from tfsnap.models.autoencoder import build_autoencoder
from tfsnap.models.blocks import blocks_of
from tfsnap.models.clip import build_clip
from tfsnap.models.unet import build_unet
from tfsnap.training.jobs import unet
from tfsnap.training.jobs.inputs import Captioned
from tfsnap.weights.archive import describe
from tfsnap.weights.store import save_weights

SHAPE = CONFIG.replace(context_width=8)  # As wide as the text encoder.
REMOVALS = possible(SHAPE, verbs=(REMOVE,))
LARGE = 32  # Another resolution that the table knows.
PROMPTS = 4  # Of a lap; there are two.


def write_networks(folder):
    """Weight files of all networks and a table in which every block takes 1 ms."""
    keras.utils.set_random_seed(0)
    for model in (build_autoencoder(AUTOENCODER), build_clip(CLIP)):
        save_weights(folder / model.name, model.variables, metadata=describe(model))
    network = build_unet(SHAPE)
    kind = {"prediction": "v", "schedule": ScheduleConfig().to_dict()}
    save_weights(folder / "unet", network.variables, metadata=describe(network, **kind))
    sides = (SIDE // 2, LARGE // 2)
    blocks = [blocks_of(SHAPE, latent=(s, s), tokens=LENGTH).values() for s in sides]
    table = LatencyTable(dict.fromkeys(itertools.chain(*blocks), 1.0), {})
    table.save(folder / "table")


def config_of(folder, **changes):
    """The config of a search that starts from these networks."""
    config = EvolveConfig(
        unet=str(folder / "unet"),
        table=str(folder / "table"),
        robust=job_of(folder, model=SHAPE),
        prompts=2 * PROMPTS,
        laps=2,
        rounds=1,
        steps=1,
    )
    return config.replace(**changes)


def evolver_of(config, workdir):
    return Evolver(config, workdir=workdir, strategy=shared_strategy("one"))


def give_captions(monkeypatch):
    """Captions in place of those of a data set."""
    examples = Examples(
        images=np.zeros([1, SIDE, SIDE, 3], np.uint8),
        captions=(("a",),),
        groups=np.zeros(1, np.int32),
        group_names=("x",),
        keys=("0",),
    )
    tokens = np.zeros([1, 1, LENGTH], np.int32)
    found = Captioned(examples, tokens, tokens[0, 0], tokenizer=None)
    monkeypatch.setattr(unet, "captioned", lambda *arguments: found)


def make_up(workdir, unet, scores, *, removals=REMOVALS):
    """Leaves the first round's robust training, which changed nothing, and its scores.

    Args:
      workdir: of the search.
      unet: weight file that it starts from.
      scores: by the text of a removal, for both laps: a number or a pair of them; the unedited
        network has 0.5, and what is not named 0.4.
      removals: all of them.
    """
    folder = workdir / "round-00"
    (folder / "robust").mkdir(parents=True)
    shutil.copy(unet, folder / "robust/weights.safetensors")
    wanted = {"as it is": 0.5, **{str(action): 0.4 for action in removals}, **scores}
    values = {
        f"{key}, lap {lap}": {"scores": spread(value, lap), "seconds": 1.0}
        for key, value in wanted.items()
        for lap in range(2)
    }
    (folder / "scores.json").write_text(json.dumps(values))


def spread(value, lap):
    """Scores of the prompts of a lap, as far apart for all edits."""
    mean = value[lap] if isinstance(value, tuple) else value
    return [mean + i / 1000 for i in range(PROMPTS)]
