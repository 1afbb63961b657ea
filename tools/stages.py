"""Programs that run the project's other programs one after another, as a user would type them."""

import pathlib
import subprocess
import sys
import time
from collections.abc import Sequence

ROOT = pathlib.Path(__file__).resolve().parents[1]


class Stage:
    """One command.

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

    def run(self, name: str) -> None:
        """Runs the command from the repository's root; if it fails, the whole ends.

        Args:
          name: of the whole, for the message.
        """
        print(f"    {' '.join(_quoted(word) for word in self.command)}", flush=True)
        done = subprocess.run([sys.executable, *self.command], cwd=ROOT)
        if done.returncode:
            program = self.command[0]
            sys.exit(f"{name}: {program} failed; mend what it says and run the {name} again")


def _quoted(word: str) -> str:
    return f'"{word}"' if set(word) & set(" ()") else word


def clock(seconds: float) -> str:
    """Minutes and seconds."""
    return f"{int(seconds) // 60}:{int(seconds) % 60:02d}"


def run(all_stages: Sequence[Stage], name: str) -> float:
    """Runs the stages and tells the time left before each.

    Args:
      all_stages: in their order.
      name: of the whole, for messages.

    Returns:
      The seconds they took.
    """
    began = time.monotonic()
    for i, stage in enumerate(all_stages):
        left = sum(later.seconds for later in all_stages[i:])
        print(
            f"\n[{i + 1}/{len(all_stages)}] {stage.title} "
            f"({clock(time.monotonic() - began)} so far, about {clock(left)} left)",
            flush=True,
        )
        stage.run(name)
    return time.monotonic() - began
