"""Ways in which a run ends before its last step: signals, and workers that hang."""

import contextlib
import faulthandler
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from types import FrameType
from typing import Any

HUNG_EXIT_CODE = 75  # EX_TEMPFAIL of sysexits(3): start it again.

_PATIENCE = 10  # Times as long as a step may take what is none: to write, and to draw.
_SIGNALS = (signal.SIGTERM, signal.SIGINT)
_HANGUP = getattr(signal, "SIGHUP", None)  # Windows has none.
_OUTPUTS = (1, 2)


class Stopped(BaseException):
    """A signal came while there was nothing to finish first. Its argument is the signal's name."""


class StopRequest:
    """Turns SIGTERM, SIGINT and SIGHUP into a wish that a loop grants when its step is done.

    Outside of `deferred` a signal raises `Stopped`; a second one that is no SIGHUP always does. Use
    it as a context manager, in the main thread. After a SIGHUP, what would be printed to a terminal
    that is gone goes nowhere, in place of failing. Under nohup, which has it ignored, it stays so.

    Attributes:
      signal: name of the signal that came, or None.
    """

    def __init__(self) -> None:
        self.signal: str | None = None
        self._deferred = False
        self._before: dict[int, Any] = {}
        self._terminals: list[int] = []

    def __enter__(self) -> "StopRequest":
        self._terminals = _terminals()
        self._before = {number: signal.signal(number, self._note) for number in _heeded()}
        return self

    def __exit__(self, *error: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def listen(self) -> None:
        """Takes the signals back: TensorFlow takes SIGTERM where several workers meet."""
        for number in self._before:
            signal.signal(number, self._note)

    @contextlib.contextmanager
    def deferred(self) -> Iterator[None]:
        """Inside, the first signal is only noted."""
        self.listen()
        self._deferred = True
        try:
            yield
        finally:
            self._deferred = False

    def _note(self, number: int, frame: FrameType | None) -> None:
        again = self.signal is not None
        if number == _HANGUP:
            _leave_dead(self._terminals)
            if again:  # Of one closed terminal a shell tells, and then the kernel.
                return
        self.signal = signal.Signals(number).name
        if again or not self._deferred:
            raise Stopped(self.signal)


def pass_on(send: Callable[[int], None]) -> dict[int, Any]:
    """Takes the signals that end a program, for those that it runs in sessions of their own.

    Such a process outlives a closed terminal or a lost ssh, whose SIGHUP reaches this one alone.
    Under nohup, which has it ignored, it stays so.

    Args:
      send: gets the number of a signal that came.

    Returns:
      The handlers that were there, by number.
    """
    terminals = _terminals()

    def handle(number: int, frame: FrameType | None) -> None:
        if number == _HANGUP:
            _leave_dead(terminals)
        send(number)

    return {number: signal.signal(number, handle) for number in _heeded()}


def _heeded() -> list[int]:
    """Numbers of the signals that end a program here."""
    hears = _HANGUP is not None and signal.getsignal(_HANGUP) != signal.SIG_IGN
    return [*_SIGNALS, _HANGUP] if hears else [*_SIGNALS]


def _terminals() -> list[int]:
    """Which of standard output and standard error is a terminal."""
    return [output for output in _OUTPUTS if os.isatty(output)]


def _leave_dead(terminals: list[int]) -> None:
    """Lets what is printed to terminals that are gone go nowhere, in place of failing."""
    for output in set(terminals) - set(_terminals()):
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, output)
        os.close(nowhere)


class Watchdog:
    """Ends the process when no step finishes for a while, as when another worker hangs.

    A step that waits for a worker that is gone waits in native code, where no exception reaches it.

    Args:
      seconds: how long a step may take; 0 switches the watchdog off.
      who: name of this worker, for the message.
    """

    def __init__(self, seconds: float, who: str):
        self._seconds = seconds
        self._who = who
        self._fed = time.monotonic()
        self._step = 0
        self._factor = 1
        self._done = threading.Event()
        if seconds:
            threading.Thread(target=self._watch, daemon=True).start()

    def feed(self, step: int) -> None:
        """Tells that `step` steps are done."""
        self._fed, self._step = time.monotonic(), step

    @contextlib.contextmanager
    def patient(self) -> Iterator[None]:
        """Inside, what is no step may take ten times as long as one."""
        self._factor = _PATIENCE
        try:
            yield
        finally:
            self.feed(self._step)
            self._factor = 1

    def close(self) -> None:
        """Stops watching."""
        self._done.set()

    def _watch(self) -> None:
        while not self._done.wait(min(1.0, self._seconds / 4)):
            waited = time.monotonic() - self._fed
            if waited > self._seconds * self._factor:
                print(
                    f"{self._who}: step {self._step + 1} has not finished in {waited:.0f} s "
                    "(--hang_timeout): another worker hangs or is gone, or the step is too long. "
                    "Ending; run the same command again to go on from the newest checkpoint",
                    file=sys.stderr,
                    flush=True,
                )
                faulthandler.dump_traceback(all_threads=False)
                os._exit(HUNG_EXIT_CODE)
