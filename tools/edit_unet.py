#!/usr/bin/env python3
"""Makes a UNet of another shape and takes the weights of all blocks along that it keeps.

    tools/edit_unet.py --weights=sd15/unet.safetensors --to=snapfusion --output=small.safetensors
    tools/edit_unet.py --weights=sd15/unet.safetensors --edits=runs/evolved/edits.txt \
      --output=evolved.safetensors
    tools/edit_unet.py --weights=sd15/unet.safetensors --output=small.safetensors \
      --edit="remove down.0.attentions.1.0" --edit="remove mid.resnets.1"

--to is a preset or a JSON file: with as many channels as the UNet has, the last blocks of a stage
go or come first; with the same blocks and fewer channels, the strongest channels stay. What is
added starts as the identity. The shape is written beside the weights, as a .json file.
tools/train.py takes the two as --config.training.init and --unet.
"""

import pathlib
import sys

import numpy as np
from absl import app, flags

# Programs are run from anywhere: the repository's root holds `tools`.
sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))

from tfsnap.config import UNetConfig, write_json
from tfsnap.evolve.actions import Action, apply_all
from tfsnap.evolve.carry import carry
from tfsnap.evolve.path import path
from tfsnap.models.presets import find_unet
from tfsnap.weights.component import read_config
from tfsnap.weights.slim_unet import slim_unet
from tfsnap.weights.store import WeightFileError, load_tensors, save_tensors
from tools.program import run_main

_WEIGHTS = flags.DEFINE_string("weights", None, "The UNet: a file of tfsnap's.")
_TO = flags.DEFINE_string("to", None, "The shape that is wanted: a preset or a JSON file.")
_EDITS = flags.DEFINE_string("edits", None, "Or a file with an edit in each line.")
_EDIT = flags.DEFINE_multi_string("edit", [], "Or edits one by one. Repeatable.")
_OUTPUT = flags.DEFINE_string("output", None, "The file to write.")


def edits(config: UNetConfig) -> list[Action]:
    """What the flags say is to be done to a network."""
    if _TO.value:
        return path(config, find_unet(_TO.value))
    lines = pathlib.Path(_EDITS.value).read_text().splitlines() if _EDITS.value else _EDIT.value
    return [Action.parse(line) for line in lines if line.strip()]


def _blocks(config: UNetConfig) -> dict[str, tuple[int, ...]]:
    """The numbers of attentions after the ResNets of each stage."""
    return {name: stage.attentions for name, stage in config.stages.items()}


def edited(
    config: UNetConfig, tensors: dict[str, np.ndarray]
) -> tuple[UNetConfig, dict[str, np.ndarray]]:
    """The network that is wanted, and its weights."""
    goal = find_unet(_TO.value) if _TO.value else config
    if goal != config and _blocks(goal) == _blocks(config):
        return goal, slim_unet(tensors, wide=config, narrow=goal)
    actions = edits(config)
    print(*actions, sep="\n")
    result = apply_all(config, actions)
    return result.config, carry(tensors, result)


def main() -> None:
    if sum(map(bool, (_TO.value, _EDITS.value, _EDIT.value))) != 1:
        raise app.UsageError("give one of --to, --edits and --edit")
    output = pathlib.Path(_OUTPUT.value)
    if output.suffix == ".json":
        raise ValueError(f"--output is {output}: .json is the shape's, beside the weights")
    tensors, about = load_tensors(_WEIGHTS.value)
    if about.get("network") != "unet":
        raise WeightFileError(f"{_WEIGHTS.value} holds {about.get('network')}, no UNet")
    config, values = edited(read_config(_WEIGHTS.value, UNetConfig, about.get("config")), tensors)
    save_tensors(output, values, metadata={**about, "config": config.to_dict()})
    write_json(output.with_suffix(".json"), config.to_dict())
    before, after = (sum(map(np.size, x.values())) for x in (tensors, values))
    print(f"{before:,} parameters before, {after:,} now: {output}")


if __name__ == "__main__":
    flags.mark_flags_as_required(["weights", "output"])
    run_main(main)
