#!/usr/bin/env python3
"""Compares what a search found with random pruning and with fewer channels, at equal latency.

    benchmarks/architectures.py --config=configs/emoji/unet.py:search \
      --teacher=runs/search/teacher/weights.safetensors --evolved=runs/search/evolved \
      --narrow=runs/search/narrow.json --table=runs/search/table.json --output=runs/search/arms

The evolved network goes on from the search's own weights; the others start with what they keep of
the teacher's and are trained longer by the steps that the search took, so that all are trained for
as many. With --prepare the program writes every network's shape and first weights and ends; those
whose run is in its folder already, such as one that was trained as a portable step, are not trained
here. With --nosearch_counts all are trained for --steps after they were pruned, and with
--shapes all start from the teacher as well. Random networks are others for each seed; all
draw the same pictures. Whatever follows `--` is given to tools/train.py. Run again, the program
goes on where it stopped, and refuses what is there of other flags or files; networks and seeds may
be added. docs/architecture.md has a result.
"""

import dataclasses
import json
import pathlib
import random
import statistics
import sys
from collections.abc import Iterator

import numpy as np
from absl import flags

# Programs are run from anywhere: the repository's root holds `tools`.
sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))

from tfsnap.bench.turns import TurnsReport, time_in_turn
from tfsnap.config import UNetConfig, differences, write_json
from tfsnap.evolve.actions import REMOVE, Action, apply, apply_all, possible
from tfsnap.evolve.carry import carry
from tfsnap.evolve.evolver import EDITS
from tfsnap.evolve.latency import LatencyTable
from tfsnap.evolve.state import STATE, State
from tfsnap.export.converter import convert
from tfsnap.export.graphs import unet_graph
from tfsnap.metrics.standard_error import standard_error
from tfsnap.models.presets import find_unet
from tfsnap.models.unet import build_unet
from tfsnap.runtime.sizes import parse_size
from tfsnap.training.jobs.runs import is_finished
from tfsnap.weights.slim_unet import slim_unet
from tfsnap.weights.store import load_tensors, save_tensors
from tools.program import call, run_main

ARMS = ["evolved", "random", "narrow"]
_CONFIG = flags.DEFINE_string("config", None, "Of the training: a UNet's config in configs/.")
_TEACHER = flags.DEFINE_string("teacher", None, "Weight file of the network that is pruned.")
_EVOLVED = flags.DEFINE_string("evolved", None, "Folder of tools/evolve.py.")
_NARROW = flags.DEFINE_string("narrow", None, "A JSON file: the teacher with fewer channels.")
_TABLE = flags.DEFINE_string("table", None, "Latency table of the pruned ones.")
_OUTPUT = flags.DEFINE_string("output", None, "Folder of the runs and of results.json.")
_ARMS = flags.DEFINE_multi_enum("arm", ARMS, ARMS, "Which networks.")
_SEEDS = flags.DEFINE_integer("seeds", 3, "Number of seeds.", 1)
_STEPS = flags.DEFINE_integer("steps", 600, "Steps of training.", 1)
_SHAPES = flags.DEFINE_bool(
    "shapes", False, "The evolved network starts with the teacher's weights as well."
)
_SEARCH_COUNTS = flags.DEFINE_bool(
    "search_counts", True, "The others are trained longer, by the steps that the search took."
)
_PREPARE = flags.DEFINE_bool("prepare", False, "Only write the networks that are to be trained.")
_GUIDANCE = flags.DEFINE_float("guidance", 3.0, "Guidance scale of the pictures.", 0.0)
_SAMPLED = flags.DEFINE_integer("sampling_steps", 25, "Steps of the sampler.", 1)
_COUNT = flags.DEFINE_integer("count", 144, "Pictures of a network that are scored.", 1)
_SPLIT = flags.DEFINE_string("split", "all", "Whose captions they show.")
_LATENT = flags.DEFINE_string("latent", "8x8", "Height and width of the latent.")
_TOKENS = flags.DEFINE_integer("tokens", 24, "Length of the text embedding.", 1)
_ROUNDS = flags.DEFINE_integer("rounds", 5, "How often each network is timed, in turn.", 1)
_NEAR = flags.DEFINE_float("near", 0.02, "How far random networks may be from the latency.", 0.0)

_TRIES = 10_000  # Random prunings until one is near enough.


@dataclasses.dataclass(frozen=True)
class Arm:
    """A network to train.

    Attributes:
      name: of its kind.
      seed: of its training, and of what is random about it.
      config: its shape.
      tensors: its weights at first.
      steps: of training.
    """

    name: str
    seed: int
    config: UNetConfig
    tensors: dict[str, np.ndarray]
    steps: int


class Maker:
    """Makes networks of the teacher."""

    def __init__(self):
        self.tensors, about = load_tensors(_TEACHER.value)
        self.about = about
        self.teacher = UNetConfig.from_dict(about["config"])
        self.table = LatencyTable.load(_TABLE.value)
        search = pathlib.Path(_EVOLVED.value)
        self.edits = list(map(Action.parse, (search / EDITS).read_text().splitlines()))
        state = State.load(search / STATE)
        config = json.loads((search / "config.json").read_text())
        self.evolved = state.weights
        self.searched = len(state.rounds) * config["robust"]["training"]["steps"]

    def latency(self, config: UNetConfig) -> float:
        """Milliseconds by the table."""
        latent = parse_size(_LATENT.value)
        return self.table.predict(config, latent=latent, tokens=_TOKENS.value)

    def arms(self) -> Iterator[Arm]:
        """All networks, seed by seed."""
        longer = _SEARCH_COUNTS.value and not _SHAPES.value
        steps = {name: _STEPS.value + (self.searched if longer else 0) for name in ARMS}
        steps["evolved"] = _STEPS.value
        for seed in range(_SEEDS.value):
            for name in (name for name in ARMS if name in _ARMS.value):
                config, tensors = self.start(name, seed)
                yield Arm(name, seed, config, tensors, steps[name])

    def start(self, name: str, seed: int) -> tuple[UNetConfig, dict[str, np.ndarray]]:
        """Shape and first weights of a network."""
        if name == "narrow":
            narrow = find_unet(_NARROW.value)
            return narrow, slim_unet(self.tensors, wide=self.teacher, narrow=narrow)
        edits = self.edits if name == "evolved" else self.random_edits(seed)
        edited = apply_all(self.teacher, edits)
        if name == "evolved" and not _SHAPES.value:
            return edited.config, load_tensors(self.evolved)[0]
        return edited.config, carry(self.tensors, edited)

    def random_edits(self, seed: int) -> list[Action]:
        """Removals drawn one by one until the latency is that of the evolved network."""
        wanted = self.latency(apply_all(self.teacher, self.edits).config)
        draws = random.Random(seed)
        for _ in range(_TRIES):
            config, edits = self.teacher, []
            while self.latency(config) > wanted * (1 + _NEAR.value):
                edits.append(draws.choice(possible(config, verbs=(REMOVE,))))
                config = apply(config, edits[-1]).config
            if self.latency(config) >= wanted * (1 - _NEAR.value):
                return edits
        raise ValueError(f"no random pruning is within {_NEAR.value:.0%} of {wanted:.3f} ms")


def prepare(arm: Arm, maker: Maker, extra: list[str]) -> list[str]:
    """Writes a network's shape and first weights; returns the flags of its training.

    Raises:
      ValueError: those of another network, or for another training, are there.
    """
    shape, init = _folder(arm) / "unet.json", _folder(arm) / "init.safetensors"
    if init.is_file():
        _require_same_network(arm, init)
    else:
        _folder(arm).mkdir(parents=True, exist_ok=True)
        write_json(shape, arm.config.to_dict())
        description = {**maker.about, "config": arm.config.to_dict()}
        save_tensors(init, arm.tensors, metadata=description)
    training = {"init": init, "seed": arm.seed + 1, "steps": arm.steps}
    fields = [f"--config.training.{name}={value}" for name, value in training.items()]
    given = [f"--config={_CONFIG.value}", f"--unet={shape}", *fields, *extra]
    note = _folder(arm) / "training.json"
    now = {"config": _CONFIG.value, "steps": arm.steps, "more": extra}
    if note.is_file():
        _require_equal(_folder(arm), json.loads(note.read_text()), now)
    write_json(note, now)
    return given


def _folder(arm: Arm) -> pathlib.Path:
    return pathlib.Path(_OUTPUT.value) / f"{arm.name}-{arm.seed}"


def _require_same_network(arm: Arm, init: pathlib.Path) -> None:
    """Compares a network with that whose first weights are there."""
    tensors, about = load_tensors(init)
    same = about["config"] == arm.config.to_dict() and tensors.keys() == arm.tensors.keys()
    if not (same and all(np.array_equal(tensors[n], v) for n, v in arm.tensors.items())):
        raise ValueError(
            f"{init} is not what these flags and the files that they name make: use another "
            f"--output, or delete {init.parent}"
        )


def _require_equal(path: pathlib.Path, old: dict[str, object], new: dict[str, object]) -> None:
    """Compares flags with those that a file or a folder is of."""
    changed = differences(old, new)
    if changed:
        raise ValueError(
            f"{path} is of other flags: {'; '.join(changed)}. Use the same or another --output, or "
            "delete it"
        )


def run(arm: Arm, maker: Maker, extra: list[str]) -> dict[str, object]:
    """Trains and scores a network; returns its row.

    Raises:
      ValueError: what is there of it is of other flags.
    """
    workdir, scores = _folder(arm) / "run", _folder(arm) / "scores.json"
    given = prepare(arm, maker, extra)
    flags_of = {"split": _SPLIT, "count": _COUNT, "guidance": _GUIDANCE, "steps": _SAMPLED}
    how = {name: flag.value for name, flag in flags_of.items()}
    if not scores.is_file():
        if not is_finished(workdir):
            call("tools/train.py", f"--workdir={workdir}", *given)
        which = [f"--{name}={value}" for name, value in how.items()]
        seed = f"--seed={1000 * arm.seed}"
        call("tools/evaluate.py", f"--workdir={workdir}", *which, seed, f"--json={scores}")
    row = json.loads(scores.read_text())
    _require_equal(scores, {name: row.get(name) for name in how}, how)
    parameters = sum(map(np.size, arm.tensors.values()))
    return {"name": arm.name, "seed": arm.seed, "parameters": parameters, **row}


def ratios(arms: list[Arm], maker: Maker) -> tuple[TurnsReport, list[float]]:
    """Times whole networks in turn; returns how, and each one's time over the teacher's."""
    names = {arm.config: f"{arm.name}-{arm.seed}" for arm in arms}
    latent = parse_size(_LATENT.value)
    models = {
        name: convert(
            unet_graph(build_unet(c), latent=latent, tokens=_TOKENS.value), "int8"
        ).to_bytes()
        for c, name in {maker.teacher: "teacher", **names}.items()
    }
    report = time_in_turn(models, threads=1, warmup=10, runs=60, rounds=_ROUNDS.value)
    return report, [report.networks[names[arm.config]].ratio for arm in arms]


def table(rows: list[dict]) -> str:
    """Means over the seeds in Markdown, with standard errors."""
    lines = [
        "| network | parameters | latency over the teacher's | CLIP score | top-1 |",
        "|---|---|---|---|---|",
    ]
    for name in dict.fromkeys(row["name"] for row in rows):
        mine = [row for row in rows if row["name"] == name]
        cells = []
        for field in ("clip_score", "top1"):
            values = np.array([row[field] for row in mine])
            cells.append(f"{values.mean():.4f} ± {standard_error(values):.4f}")
        size, ratio = (statistics.mean(row[f] for row in mine) for f in ("parameters", "ratio"))
        lines.append(f"| {name} | {size:,.0f} | {ratio:.3f} | {' | '.join(cells)} |")
    return "\n".join(lines)


def main(given: list[str]) -> None:
    maker = Maker()
    arms = list(maker.arms())
    if _PREPARE.value:
        for arm in arms:
            print("training flags:", *prepare(arm, maker, given))
        return
    rows = [run(arm, maker, given) for arm in arms]
    report, times = ratios(arms, maker)
    rows = [{**row, "ratio": ratio} for row, ratio in zip(rows, times, strict=True)]
    result = {"timing": dataclasses.asdict(report), "rows": rows}
    write_json(pathlib.Path(_OUTPUT.value) / "results.json", result)
    print(table(rows))


if __name__ == "__main__":
    flags.mark_flags_as_required(["config", "teacher", "evolved", "narrow", "table", "output"])
    run_main(main, arguments=True)
