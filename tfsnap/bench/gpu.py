"""How long a network takes on the GPU."""

import json
import re
import subprocess
import tempfile
from collections.abc import Mapping
from pathlib import Path

from tfsnap.bench.report import Timing
from tfsnap.bench.timing import require_counts
from tfsnap.runtime.apart import run_apart
from tfsnap.runtime.errors import InterpreterError

_SCRIPT = Path(__file__).with_name("gpu_process.py")
_ADAPTER = re.compile(r"Selected adapter: (.+)")
_SOFTWARE = "adapterType=CPU"


def time_on_gpu(
    model: bytes,
    *,
    name: str,
    warmup: int = 3,
    runs: int = 20,
    timeout: float = 900.0,
    environment: Mapping[str, str] | None = None,
) -> tuple[Timing, str]:
    """Measures one network on random inputs, all of it on the GPU.

    One process a model, whose start is not measured. A run includes reading the outputs.

    Args:
      model: a TFLite flatbuffer with float inputs and one signature, in float16 or float32.
      name: how to call it in messages.
      warmup: runs between the first and the measured ones.
      runs: measured runs.
      timeout: seconds after which the process is ended.
      environment: of the process; by default that of this one.

    Returns:
      The times and the GPU's name; one in software says so.

    Raises:
      InterpreterError: there is no GPU or no ai-edge-litert, the network does not run whole on it,
        or it took too long.
      RequestError: a number of runs is out of range.
    """
    require_counts(warmup=warmup, least=0)
    require_counts(runs=runs, least=1)
    with tempfile.TemporaryDirectory() as scratch:
        path = Path(scratch) / "model.tflite"
        path.write_bytes(model)
        counts = (str(warmup), str(runs))
        try:
            result = run_apart(_SCRIPT, path, *counts, environment=environment, timeout=timeout)
        except subprocess.TimeoutExpired:
            raise InterpreterError(f"{name}: no result on the GPU after {timeout:.0f} s") from None
    return _read(result, name=name, warmup=warmup)


def adapter_in(log: str) -> str | None:
    """Returns the GPU that the accelerator took, from its log; one in software says so."""
    found = _ADAPTER.search(log)
    if found is None:
        return None
    gpu = found[1].strip()
    return f"{gpu}, in software: no speed of a GPU" if _SOFTWARE in gpu else gpu


def _read(
    result: subprocess.CompletedProcess[str], *, name: str, warmup: int
) -> tuple[Timing, str]:
    """The times in a finished process's output, and the GPU in its log."""
    gpu = adapter_in(result.stderr)
    measured = json.loads(result.stdout.splitlines()[-1]) if result.returncode == 0 else {}
    if gpu is None or "times" not in measured:
        lines = [line for line in result.stderr.splitlines() if not line.startswith("INFO")]
        why = measured.get("unusable") or " ".join(lines[-3:]) or f"code {result.returncode}"
        raise InterpreterError(f"{name} does not run whole on a GPU of this machine: {why}")
    return Timing.of(measured["load"], measured["first"], measured["times"], warmup), gpu
