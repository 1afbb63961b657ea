#!/usr/bin/env python3
"""Pictures from the model that ships, and then the whole pipeline in minutes on real emoji.

    tools/demo.py                 # what `make demo` runs
    tools/demo.py --output=DIR    # elsewhere than the repository's runs/demo

Draws with the bundle in tfsnap/presets first. Then it trains a small model from nothing and exports
it, with the project's own programs one after another, printing each command as a user would type
it. Data and trainings that are done are not made again, so an interrupted demo continues;
bundles and pictures are.
"""

import json
import pathlib
import sys

from absl import flags

# Programs are run from anywhere: the repository's root holds `tools`.
sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))

from tools.demo_captions import SEEN, UNSEEN
from tools.program import ROOT, run_main
from tools.stages import Stage, clock, run

_OUTPUT = flags.DEFINE_string("output", "runs/demo", "Folder for everything the demo makes.")

_SAMPLING = ("--steps=25", "--guidance=3")
_SHIPPED = "tfsnap/presets/emoji-64/emoji-64-int8.tfsnap"


def stages(out: pathlib.Path) -> list[Stage]:
    """The demo's commands; `out` is the folder for what they make."""
    unet = f"--workdir={out}/unet"

    def train(part: str, seconds: float, *more: str) -> Stage:
        config = f"--config=configs/emoji/{part}.py:demo"
        return Stage(
            f"train the {part}", seconds, "train", config, f"--workdir={out}/{part}", *more
        )

    parts = [
        f"--config.{part}={out}/{part}/weights.safetensors" for part in ("autoencoder", "clip")
    ]
    prompts = [f"--prompt={caption}" for caption in UNSEEN + SEEN]
    return [
        Stage(
            "draw with the model that ships",
            5,
            "generate",
            f"--bundle={_SHIPPED}",
            f"--output={out}/shipped.png",
            *prompts,
        ),
        Stage("fetch and draw the emoji", 45, "prepare_data", "--dataset=emoji", "--resolution=32"),
        train("autoencoder", 90),
        train("clip", 35),
        train("unet", 130, *parts),
        *(
            Stage(
                f"export {precision}",
                15,
                "export",
                unet,
                f"--output={out}/{precision}",
                f"--precision={precision}",
                *_SAMPLING,
                "--name=emoji-demo",
            )
            for precision in ("fp16", "int8")
        ),
        Stage(
            "look for pictures' captions",
            12,
            "evaluate",
            unet,
            f"--bundle={out}/int8",
            "--split=validation+holdout",
            "--count=72",
            *_SAMPLING,
            f"--json={out}/retrieval.json",
        ),
        Stage(
            "draw a grid",
            5,
            "generate",
            f"--bundle={out}/int8",
            *_SAMPLING,
            f"--output={out}/grid.png",
            *prompts,
        ),
        *(
            Stage(
                f"measure latency, {precision}",
                3,
                "benchmark",
                f"--bundle={out}/{precision}",
                "--threads=2",
                f"--json={out}/latency-{precision}.json",
            )
            for precision in ("fp16", "int8")
        ),
    ]


def main() -> None:
    out = pathlib.Path(_OUTPUT.value)  # Programs run in the repository's root.
    if _OUTPUT.present:
        out = out.absolute()
    (ROOT / out).mkdir(parents=True, exist_ok=True)
    seconds = run(stages(out), "demo")
    found = json.loads((ROOT / out / "retrieval.json").read_text())
    print(f"\nDone in {clock(seconds)}.")
    print(f"Shipped:   {out}/shipped.png, 64 px, by the model in the repository")
    print(f"Pictures:  {out}/grid.png, 32 px, by the one trained now (first two rows: unseen)")
    print(f"Bundles:   {out}/fp16 and {out}/int8")
    print(f"Latency:   {out}/latency-fp16.json and {out}/latency-int8.json")
    print(
        f"Retrieval: {found['top1']:.0%} of {found['count']} pictures for unseen captions find "
        f"their caption (chance {found['chance']:.1%})"
    )


if __name__ == "__main__":
    run_main(main)
