"""Scripts that run in a process of their own, because the GPU accelerator shares none."""

import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path


def run_apart(
    script: Path, *arguments: str | Path, environment: Mapping[str, str] | None, timeout: float
) -> subprocess.CompletedProcess[str]:
    """Runs a Python file that imports nothing of tfsnap.

    Args:
      script: the file.
      *arguments: its command line.
      environment: of the process; None is that of this one.
      timeout: seconds after which it is ended.

    Raises:
      subprocess.TimeoutExpired: it took too long.
    """
    # -P keeps the script's folder off the path, where a module could hide one of Python's own.
    return subprocess.run(
        [sys.executable, "-P", str(script), *map(str, arguments)],
        env=environment,
        timeout=timeout,
        capture_output=True,
        text=True,
        errors="replace",
        check=False,
    )
