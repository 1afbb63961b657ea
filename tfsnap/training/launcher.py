"""Several workers on one machine: started together, watched, and started again together."""

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Sequence

from tfsnap.training.stopping import HUNG_EXIT_CODE, pass_on

_POLL_SECONDS = 0.2
_GRACE_SECONDS = 20.0  # For the others to notice that one is gone and to end by themselves.
_HUNG_SECONDS = 3.0  # The same where they have waited for one long enough.
_STOP_SECONDS = 120.0  # For a checkpoint after SIGTERM.


class Launcher:
    """Runs one command as several workers of a cluster on localhost.

    Args:
      command: the program and its arguments; it reads TF_CONFIG.
      workers: how many processes.
      restarts: how often all may be started again after one failed.
    """

    def __init__(self, command: Sequence[str], workers: int, restarts: int):
        self._command = list(command)
        self._workers = workers
        self._restarts = restarts
        self._stopping = False
        self._processes: list[subprocess.Popen] = []
        self._printers: list[threading.Thread] = []

    def run(self) -> int:
        """Runs the workers until all have ended well, or may not be started again.

        Returns:
          The exit status: 0, or that of the worker that failed last; after a signal the highest,
          as a worker may have failed to write its checkpoint.
        """
        pass_on(self._pass_on)
        for attempt in range(self._restarts + 1):
            self._start()
            worker, code = self._wait()
            self._end(code)
            if self._stopping:
                return max(_status(process.returncode) for process in self._processes)
            if code == 0:
                return code
            _say(self._what_happened(worker, code))
            if attempt < self._restarts:
                _say(f"starting all again, restart {attempt + 1} of {self._restarts}")
        _say(f"giving up after {self._restarts} restarts")
        return _status(code)

    def _start(self) -> None:
        hosts = [f"localhost:{port}" for port in _free_ports(self._workers)]
        self._processes, self._printers = [], []
        for index in range(self._workers):
            task = {"type": "worker", "index": index}
            config = json.dumps({"cluster": {"worker": hosts}, "task": task})
            process = subprocess.Popen(
                self._command,
                env={**os.environ, "TF_CONFIG": config, "PYTHONUNBUFFERED": "1"},
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                errors="replace",
                start_new_session=True,  # Ctrl-C in a terminal reaches the launcher alone.
            )
            printer = threading.Thread(target=_prefix_lines, args=(index, process), daemon=True)
            printer.start()
            self._processes.append(process)
            self._printers.append(printer)

    def _wait(self) -> tuple[int, int]:
        """Waits for all, or for the first that fails; returns its number and exit status."""
        while True:
            codes = [process.poll() for process in self._processes]
            for worker, code in enumerate(codes):
                if code:
                    return worker, code
            ended = all(code == 0 for code in codes)
            if ended or self._stopping:  # What does not stop by itself `_end` will kill.
                return 0, 0
            time.sleep(_POLL_SECONDS)

    def _end(self, code: int) -> None:
        """Lets the others end by themselves for a moment, then kills what is left.

        Args:
          code: exit status of the worker that failed first, else 0.
        """
        grace = _HUNG_SECONDS if code == HUNG_EXIT_CODE else _GRACE_SECONDS
        limit = time.monotonic() + (_STOP_SECONDS if self._stopping else grace)
        while any(p.poll() is None for p in self._processes) and time.monotonic() < limit:
            time.sleep(_POLL_SECONDS)
        for worker, process in enumerate(self._processes):
            if process.poll() is None:
                _say(f"worker {worker} still runs: it hangs, or waits for one that does; killed")
                process.kill()
                process.wait()
        for printer in self._printers:
            printer.join()

    def _what_happened(self, worker: int, code: int) -> str:
        if code == HUNG_EXIT_CODE:
            return f"worker {worker} waited too long for the others"
        if code < 0:
            return f"worker {worker} was killed by {signal.Signals(-code).name}"
        return f"worker {worker} failed with exit status {code}"

    def _pass_on(self, number: int) -> None:
        self._stopping = True
        for process in self._processes:
            with contextlib.suppress(ProcessLookupError):
                process.send_signal(number)


def _status(code: int) -> int:
    """As a shell tells it: 128 and the signal of a process that one ended."""
    return code if code >= 0 else 128 - code


def _free_ports(count: int) -> list[int]:
    """Ports that nobody listens on now; all are held until the last is found."""
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for each in sockets:
            each.bind(("localhost", 0))
        return [each.getsockname()[1] for each in sockets]


def _prefix_lines(worker: int, process: subprocess.Popen) -> None:
    for line in process.stdout:
        print(f"[{worker}] {line}", end="", flush=True)


def _say(text: str) -> None:
    print(f"launch_local: {text}", file=sys.stderr, flush=True)
