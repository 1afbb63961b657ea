"""Processes as a terminal starts them."""

import signal


def in_a_terminal() -> None:
    """A `preexec_fn`: a closed terminal ends the process, though the tests run under nohup."""
    signal.signal(signal.SIGHUP, signal.SIG_DFL)
