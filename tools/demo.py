"""The whole pipeline in minutes: real emoji in, a text-to-image model for phones out.

    tools/demo.py                 # what `make demo` runs
    tools/demo.py --output=DIR    # elsewhere than runs/demo

Runs the project's own programs one after another, printing each command as a user would type it. A
stage that is already done is not done again, so an interrupted demo continues.
"""

import json
import pathlib
import subprocess
import sys
import time
from collections.abc import Sequence

from absl import app, flags

ROOT = pathlib.Path(__file__).resolve().parents[1]
_OUTPUT = flags.DEFINE_string("output", "runs/demo", "Folder for everything the demo makes.")

# Captions of the grid. Training saw none of the first eight: not the picture, nor these words
# together; their parts it saw apart.
UNSEEN = (
    "thumbs up, dark skin tone, noto style",
    "OK hand, light skin tone, fluent flat style",
    "flexed biceps, medium-dark skin tone, twemoji style",
    "raised fist, medium-light skin tone, noto style",
    "purple heart, twemoji style",
    "red apple, fluent 3d style",
    "banana, fluent 3d style",
    "watermelon, twemoji style",
)
SEEN = (
    "thumbs up, light skin tone, twemoji style",
    "OK hand, dark skin tone, fluent flat style",
    "green heart, noto style",
    "panda, fluent flat style",
    "fox, twemoji style",
    "soccer ball, noto style",
    "rocket, fluent flat style",
    "smiling face with sunglasses, fluent 3d style",
)
_SAMPLING = ("--steps=25", "--guidance=3")


class Stage:
    """One command of the demo.

    Args:
      title: what it does, for people.
      seconds: about how long it takes on two cores, to tell the time left.
      program: a file in tools/.
      arguments: its flags.
    """

    def __init__(self, title: str, seconds: float, program: str, *arguments: str):
        self.title = title
        self.seconds = seconds
        self.command = [f"tools/{program}.py", *arguments]

    def run(self) -> None:
        """Runs the command from the repository's root and stops the demo if it fails."""
        print(f"    {' '.join(_quoted(word) for word in self.command)}", flush=True)
        done = subprocess.run([sys.executable, *self.command], cwd=ROOT)
        if done.returncode:
            sys.exit(f"demo: {self.command[0]} failed; mend what it says and run the demo again")


def _quoted(word: str) -> str:
    return f'"{word}"' if " " in word else word


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
        Stage("fetch and draw the emoji", 45, "prepare_data", "--dataset=emoji", "--resolution=32"),
        train("autoencoder", 155),
        train("clip", 90),
        train("unet", 265, *parts),
        *(
            Stage(
                f"export {precision}",
                30,
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
            20,
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


def _clock(seconds: float) -> str:
    return f"{int(seconds) // 60}:{int(seconds) % 60:02d}"


def run(all_stages: Sequence[Stage]) -> float:
    """Runs the stages and tells the time left before each; returns the seconds they took."""
    began = time.monotonic()
    for i, stage in enumerate(all_stages):
        left = sum(later.seconds for later in all_stages[i:])
        print(
            f"\n[{i + 1}/{len(all_stages)}] {stage.title} "
            f"({_clock(time.monotonic() - began)} so far, about {_clock(left)} left)",
            flush=True,
        )
        stage.run()
    return time.monotonic() - began


def main(argv: list[str]) -> None:
    if len(argv) > 1:
        raise app.UsageError(f"unexpected argument {argv[1]!r}")
    out = pathlib.Path(_OUTPUT.value)
    seconds = run(stages(out))
    found = json.loads((ROOT / out / "retrieval.json").read_text())
    print(f"\nDone in {_clock(seconds)}.")
    print(f"Pictures:  {out}/grid.png (training saw none of the first two rows)")
    print(f"Bundles:   {out}/fp16 and {out}/int8")
    print(f"Latency:   {out}/latency-fp16.json and {out}/latency-int8.json")
    print(
        f"Retrieval: {found['top1']:.0%} of {found['count']} pictures for unseen captions find "
        f"their caption (chance {found['chance']:.1%})"
    )


if __name__ == "__main__":
    app.run(main)
