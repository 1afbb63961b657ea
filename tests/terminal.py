"""Processes as a terminal starts them."""

import fcntl
import os
import signal
import subprocess
import termios
from collections.abc import Sequence
from typing import Any


def in_a_terminal() -> None:
    """A `preexec_fn`: a closed terminal ends the process, though the tests run under nohup."""
    signal.signal(signal.SIGHUP, signal.SIG_DFL)


def started_in_a_terminal(command: Sequence[Any], **how: Any) -> tuple[subprocess.Popen, int]:
    """Starts a process in a terminal of its own.

    Returns:
      The process, and a descriptor: closing it closes the terminal.
    """
    window, inside = os.openpty()

    def take() -> None:
        in_a_terminal()
        fcntl.ioctl(inside, termios.TIOCSCTTY, 0)

    process = subprocess.Popen(
        command,
        **dict.fromkeys(("stdin", "stdout", "stderr"), inside),
        start_new_session=True,
        preexec_fn=take,
        **how,
    )
    os.close(inside)
    return process, window
