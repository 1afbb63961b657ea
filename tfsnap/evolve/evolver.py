"""SnapFusion's Algorithm 1: robust training, scoring, editing, until the network is fast enough."""

import functools
import pathlib
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from tfsnap.checksum import file_sha256_once
from tfsnap.config import UNetConfig, write_json, write_whole
from tfsnap.data.examples import spread
from tfsnap.evolve.actions import ADD, REMOVE, Action, apply, apply_all, possible
from tfsnap.evolve.carry import carry
from tfsnap.evolve.config import EvolveConfig
from tfsnap.evolve.goal import Goal, Grow, Shrink
from tfsnap.evolve.lanes import Known, Lanes, Measure
from tfsnap.evolve.latency import LatencyError, LatencyTable
from tfsnap.evolve.race import race
from tfsnap.evolve.ranking import Scored, in_order, scored
from tfsnap.evolve.report import write_report
from tfsnap.evolve.scoring import Prompts, Scorer, share
from tfsnap.evolve.start import require_scoring, require_start
from tfsnap.evolve.state import STATE, Round, State
from tfsnap.metrics.standard_error import standard_error
from tfsnap.models.latent_diffusion import LatentDiffusion
from tfsnap.runtime.philox import normal
from tfsnap.training.jobs.unet import UNetJob
from tfsnap.training.sampling import Guided
from tfsnap.training.stopping import StopRequest
from tfsnap.training.trainer import WEIGHTS, Trainer
from tfsnap.weights import convert
from tfsnap.weights.archive import load_trained
from tfsnap.weights.component import UNET
from tfsnap.weights.store import load_tensors, save_tensors

EVOLVED = "unet.json"  # Shape of the newest network, in the workdir.
EDITS = "edits.txt"  # That made it of the first one, a line each.


class Evolver:
    """Runs the search in a workdir; run again, it goes on where it stopped.

    The workdir gets a folder for every round with its robust training and the edited network's
    weights, and `state.json`; after each round `unet.json`, the shape of the newest network, which
    every tool takes, `edits.txt`, which made it, and what `write_report` writes.

    Args:
      config: of the search.
      workdir: folder of the search.
      strategy: where networks are trained.
      tell: told each line of the log.

    Raises:
      ValueError: the start network is not of the kind that robust training goes on with, or edits
        cannot be scored with the config's CLIP or split.
      LatencyError: the table lacks a block.
    """

    def __init__(
        self,
        config: EvolveConfig,
        *,
        workdir: pathlib.Path,
        strategy: tf.distribute.Strategy,
        tell: Callable[[str], None] = print,
    ):
        self.config = config
        self.workdir = workdir
        self._strategy = strategy
        self._tell = tell
        self._table = LatencyTable.load(config.table)
        (start,) = convert.read(config.unet, convert.TFSNAP, [UNET])  # Reads no weight.
        first = start.config
        require_start(config, first, start.about)
        # The networks around the UNet, and its prompts, stay the same in all rounds.
        self._job = config.robust.replace(model=first)
        require_scoring(self._job, config.split)
        self.target = config.target * self.latency(first)
        path = workdir / STATE
        self._state = State.load(path) if path.is_file() else State(first, config.unet)

    def latency(self, unet: UNetConfig) -> float:
        """Milliseconds of a network by the table."""
        return self._table.predict(unet, **self._sizes)

    @property
    def yardstick(self) -> dict[str, Any]:
        """What latencies of all rounds have in common, see `LatencyTable.yardstick`."""
        return self._table.yardstick(self._job.model, **self._sizes)

    @property
    def _sizes(self) -> dict[str, Any]:
        """What a UNet is asked for."""
        side = self._job.data.resolution // self._job.trained_autoencoder.config.downsampling
        return {"latent": (side, side), "tokens": self._job.text_encoder.config.context_length}

    @property
    def rounds(self) -> tuple[Round, ...]:
        """What the rounds so far found."""
        return self._state.rounds

    @property
    def weights(self) -> str:
        """The weight file of the newest network."""
        return self._state.weights

    @property
    def over(self) -> bool:
        """Whether the rounds are over, the last one found nothing to edit, or the objective is met.

        Where the network is to grow again, to meet the objective is not the end.
        """
        done = len(self.rounds) >= self.config.rounds
        return done or any(not found.actions for found in self.rounds) or self._met

    @property
    def _met(self) -> bool:
        """Whether the network meets the objective, and is not to grow again."""
        return self.latency(self._state.config) <= self.target and not self.config.grow

    def training(self) -> tuple[UNetJob, pathlib.Path]:
        """The robust training that the next round begins with, and the folder of its run."""
        number = len(self.rounds)
        training = self._job.training
        job = self._job.replace(
            model=self._state.config,
            training=training.replace(init=self._state.weights, seed=training.seed + number),
        )
        return job, self._folder(number) / "robust"

    @property
    def trained(self) -> bool:
        """Whether that training is done, so that its result is to be scored."""
        _, folder = self.training()
        return (folder / WEIGHTS).is_file()

    def run(self, stop: StopRequest) -> UNetConfig | None:
        """Searches until the objective is met or the rounds are over.

        Returns:
          The network; None when a signal ended the search before.
        """
        while not self.over:
            if self.rounds:
                self._publish()
            self._tell(f"round {len(self.rounds)}: {self._standing}")
            if not self._round(stop):
                return None
        self._tell(f"end: {self._standing}")
        self._publish()
        return self._state.config

    def _publish(self) -> None:
        """Writes what the rounds so far made, for people and for other tools."""
        write_json(self.workdir / EVOLVED, self._state.config.to_dict())
        edits = [item.action for found in self.rounds for item in found.actions]
        write_whole(self.workdir / EDITS, "".join(f"{action}\n" for action in edits).encode())
        if self.rounds:
            write_report(self.rounds, self.workdir, target=self.target)

    @property
    def _standing(self) -> str:
        latency = self.latency(self._state.config)
        return f"{latency:.3f} ms by the table, {self.target:.3f} wanted"

    def _round(self, stop: StopRequest) -> bool:
        """Trains, scores and edits once.

        Returns:
          Whether it was done; False when a signal came.
        """
        weights = self._train(stop)
        if weights is None:
            return False
        found = self._score(weights, len(self.rounds))
        for item in found.actions:
            sign = "+" if item.action.verb == ADD else "-"
            self._tell(f"  {item.action}: dCLIP {item.dclip:+.4f}, {sign}{item.dlatency:.3f} ms")
        config, path = (
            self._edit(weights, found) if found.actions else (self._state.config, weights)
        )
        self._state = State(config, str(path), (*self.rounds, found))
        self._state.save(self.workdir / STATE)
        return True

    def _edit(self, weights: pathlib.Path, found: Round) -> tuple[UNetConfig, pathlib.Path]:
        """Makes a round's edits; returns the new shape and its weight file."""
        edited = apply_all(self._state.config, [item.action for item in found.actions])
        path = self._folder(found.number) / "edited.safetensors"
        values, about = load_tensors(weights)
        description = {**about, "config": edited.config.to_dict()}
        save_tensors(path, carry(values, edited), metadata=description)
        return edited.config, path

    def _folder(self, number: int) -> pathlib.Path:
        return self.workdir / f"round-{number:02d}"

    def _train(self, stop: StopRequest) -> pathlib.Path | None:
        """Robust training from the state's weights with a fresh optimizer."""
        job, folder = self.training()
        if self.trained:
            return folder / WEIGHTS
        return Trainer(job, workdir=folder, strategy=self._strategy).fit(stop)

    def _score(self, weights: pathlib.Path, number: int) -> Round:
        """Races all removals against each other."""
        c = self.config
        known = Known(self._folder(number) / "scores.json", file_sha256_once(weights))
        devices = self._strategy.extended.worker_devices
        scorers = [self._scorer(weights, device) for device in devices]
        lanes = Lanes(list(map(self._lane, scorers, devices)), known)
        before, savings = self.latency(self._state.config), self._savings()
        base = self._base(lanes, weights)
        goal = self._goal(before - self.target)

        def scores(actions: Sequence[Action], lap: int) -> list[np.ndarray]:
            found = zip(actions, lanes(actions, lap), strict=True)
            return [goal.sign * (base[lap] - values) / savings[action] for action, values in found]

        values = race(
            list(savings),
            scores,
            laps=c.laps,
            winners=goal.most,
            hopeless=goal.hopeless,
            floor=goal.floor,
            confidence=c.confidence,
            after_lap=lambda done, v: self._tell(f"  scored {done} of {c.laps} laps"),
        )
        ranked = [scored(a, goal.sign * v * savings[a], savings[a]) for a, v in values.items()]
        clip = np.concatenate(base)
        return Round(
            number,
            before,
            float(clip.mean()),
            standard_error(clip),
            _marked(ranked, goal.choose(ranked)),
            evaluations=scorers[0].evaluations * known.pictures,
            seconds=known.seconds,
        )

    def _savings(self) -> dict[Action, float]:
        """The removals that make the network faster, with the milliseconds that each saves."""
        config, savings = self._state.config, {}
        before = self.latency(config)
        for action in possible(config, verbs=(REMOVE,)):
            saved = before - self.latency(apply(config, action).config)
            if saved > 0:  # By the table, whose noise may say otherwise of a small block.
                savings[action] = saved
        return savings

    def _base(self, lanes: Lanes, weights: pathlib.Path) -> list[np.ndarray]:
        """The scores of each lap as the network is."""
        base = [lanes([None], lap)[0] for lap in range(self.config.laps)]
        lost, count = np.sum(~np.isfinite(base)), np.size(base)
        if lost:
            raise ValueError(
                f"{lost} of {count} pictures of {weights} have no finite CLIP score, so that edits "
                "cannot be compared with it: search again in another --workdir with a lower "
                "learning rate or in float32 (config.robust.training)"
            )
        return base

    def _goal(self, excess: float) -> Goal:
        """To remove blocks, or to add one where the network is fast enough."""
        if excess > 0:
            return Shrink(self._state.config, self.config.actions, excess)
        return Grow(self._state.config, self._fits)

    def _scorer(self, weights: pathlib.Path, device: str) -> Scorer:
        """What scores edits of a network on a device, with copies of all networks there."""
        with tf.device(device):
            # A job of its own: a job keeps its networks.
            job = self._job.replace(model=self._state.config)
            unet = load_trained(weights, "unet").model
            return Scorer(job.assemble(unet), self.config.steps, self.config.guidance)

    def _lane(self, scorer: Scorer, device: str) -> Measure:
        """What measures edits with a scorer on its device."""
        unet, size = scorer.model.unet, self.config.prompts // self.config.laps
        with tf.device(device):
            prompts = self._prompts(scorer.model)

        @functools.cache
        def network(action: Action | None) -> Guided:
            return scorer.prepare(share(unet, apply(unet.config, action)) if action else unet)

        def scores(action: Action | None, lap: int) -> np.ndarray:
            with tf.device(device):
                return scorer.scores(network(action), prompts.part(lap, size))

        return scores

    def _fits(self, config: UNetConfig) -> bool:
        """Whether a network is known to meet the objective."""
        try:
            return self.latency(config) <= self.target
        except LatencyError:  # The table lacks a block of it.
            return False

    def _prompts(self, model: LatentDiffusion) -> Prompts:
        """The same in all rounds."""
        c = self.config
        found = self._job.captioned(c.split)
        tokens = found.tokens[:, 0]  # The canonical captions, [N, T]
        rows = np.random.default_rng(c.seed).permutation(spread(len(tokens), c.prompts))
        noise = [normal(c.seed * 2**32 + i, model.latent_shape) for i in range(c.prompts)]
        return Prompts.make(
            model, tokens=tokens[rows], null_tokens=found.null_tokens, noise=np.stack(noise)
        )


def _marked(ranked: Sequence[Scored], chosen: Sequence[Scored]) -> tuple[Scored, ...]:
    """All edits in the order of their scores, with those to be made."""
    named = {item.action for item in chosen}
    return tuple(in_order([*chosen, *(item for item in ranked if item.action not in named)]))
