"""Programs that run the project's other programs one after another, as a user would type them."""

import signal
import subprocess
import sys
import time
from collections.abc import Sequence

from tfsnap.training.stopping import pass_on
from tools.program import ROOT


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
        if _ends_with([sys.executable, *self.command], name):
            program = self.command[0]
            sys.exit(f"{name}: {program} failed; mend what it says and run the {name} again")


def _ends_with(command: Sequence[str], name: str) -> int:
    """Runs a program and returns its exit status.

    SIGTERM, SIGINT and SIGHUP are passed on, once: a training writes a checkpoint then. Only when
    it has ended, so does the whole.
    """
    signals: list[str] = []

    def note(number: int) -> None:
        signals.append(signal.Signals(number).name)
        process.send_signal(number)

    # In a session of its own, Ctrl-C in a terminal reaches this process alone.
    process = subprocess.Popen(command, cwd=ROOT, start_new_session=True)
    before = pass_on(note)
    try:
        status = process.wait()
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    if signals:
        sys.exit(f"{name}: stopped by {signals[0]}; run the {name} again to go on")
    return status


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
