#!/usr/bin/env python3
"""Tells from a TFLite file whether a delegate would run it whole, and right.

    tools/check_delegate.py runs/emoji/fp16 --target=gpu
    tools/check_delegate.py unet.tflite --target=gpu_classic --gpu=adreno-740 --json=report.json
    tools/check_delegate.py runs/emoji/fp16 --target=gpu --record=ranges.json

The model is a bundle, all of whose networks are checked, or one TFLite file. --gpu also compares
the tensors with the images and buffers of a family of GPUs. --record draws the bundle's own picture
on the CPU, keeps how far every tensor reaches, and looks for what would overflow half precision;
--ranges takes such a file. The exit status is 1 where a model fails. docs/delegates.md has the
rules.
"""

import pathlib
import sys

from absl import app, flags

# Programs are run from anywhere: the repository's root holds `tools`.
sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))

from tfsnap.export.rules import files
from tfsnap.export.rules.checker import Verdict, check_model
from tfsnap.export.rules.coverage import require_of_all
from tfsnap.export.rules.limits import GPU_CLASSES, find_gpu_class
from tfsnap.export.rules.models import Model, models_of
from tfsnap.export.rules.ranges import HALF_TARGETS, Ranges, load_ranges
from tfsnap.export.rules.recorder import record_bundle
from tfsnap.export.rules.report import table, to_json
from tfsnap.export.rules.rule import GPUS
from tfsnap.export.rules.targets import TARGETS
from tfsnap.runtime.bundle import Bundle
from tools.program import run_main
from tools.unused_flags import given, refuse

_TARGET = flags.DEFINE_enum("target", None, list(TARGETS), "The delegate.")
_GPU = flags.DEFINE_string("gpu", None, f"A family of GPUs: {', '.join(GPU_CLASSES)}.")
_RANGES = flags.DEFINE_string("ranges", None, "Recorded ranges, .json or .npz.")
_RECORD = flags.DEFINE_string("record", None, "Record ranges, and keep them in this JSON file.")
_JSON = flags.DEFINE_string("json", None, "Also write every finding to this file.")


def require_used_flags() -> None:
    """Refuses flags that would change nothing for the target."""
    target = _TARGET.value
    for unused, targets in (((_RANGES, _RECORD), HALF_TARGETS), ((_GPU,), GPUS)):
        if target not in targets:
            others = f"choose {', '.join(targets[:-1])} or {targets[-1]}"
            refuse(given(*unused), f"--target={target}", others)


def recorded(model: str, networks: list[Model]) -> dict[str, Ranges] | None:
    """Ranges by component; None where the flags ask for none."""
    if _RECORD.value:
        ranges = record_bundle(Bundle.open(model))
        files.save(_RECORD.value, ranges)
        return ranges
    if not _RANGES.value:
        return None
    ranges = load_ranges(_RANGES.value)
    components = list(dict.fromkeys(network.component for network in networks))
    if not set(ranges) & set(components):
        about = ", ".join(ranges) or "no network"
        raise ValueError(f"{_RANGES.value} is about {about}, not {', '.join(components)}")
    return ranges


def verdicts(model: str) -> list[Verdict]:
    """Checks every network."""
    require_used_flags()
    files.require_usable(model, record=_RECORD.value, report=_JSON.value, ranges=_RANGES.value)
    gpu = find_gpu_class(_GPU.value) if _GPU.value else None
    target = TARGETS[_TARGET.value]
    with models_of(model) as networks:
        ranges = recorded(model, networks)
        found = [
            check_model(
                network.path,
                target,
                name=network.name,
                gpu=gpu,
                ranges=None if ranges is None else ranges.get(network.component, {}),
            )
            for network in networks
        ]
        for component, names in (ranges or {}).items():
            coverage = [
                one
                for network, verdict in zip(networks, found, strict=True)
                if network.component == component
                for one in verdict.coverage
            ]
            if coverage:
                require_of_all(coverage, names, name=component)
        return found


def main(given: list[str]) -> None:
    if len(given) != 1:
        told = " ".join(given) or "none"
        raise app.UsageError(f"give one bundle or TFLite file, not {told}")
    found = verdicts(given[0])
    print(table(found))  # First: it is there whatever happens to the file.
    if _JSON.value:
        files.save(_JSON.value, to_json(found))
    sys.exit(0 if all(verdict.passed for verdict in found) else 1)


if __name__ == "__main__":
    flags.mark_flags_as_required(["target"])
    flags.mark_flags_as_mutual_exclusive(["ranges", "record"])
    run_main(main, arguments=True)
