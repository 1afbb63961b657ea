"""Does a TFLite model run whole, and right, on the GPU accelerator?

The accelerator's own word is not enough: it may accept a graph and compute something else. A model
passes when it compiles for the GPU alone, without the CPU to fall back on, when the log holds no
error, and when its outputs are the CPU's.
"""

import dataclasses
import json
import math
import re
import subprocess
import tempfile
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from tfsnap.export import software_gpu as vulkan
from tfsnap.runtime.apart import run_apart

TOLERANCE = 2e-4
# In half precision every intermediate value is rounded to 11 bits, a part in 2,048.
HALF_TOLERANCE = 2e-2
_SCRIPT = Path(__file__).with_name("delegate_process.py")
_UNSUPPORTED = re.compile(r"not supported by GPU delegate")
_END_OF_LIST = re.compile(r"will run on the CPU")
_WITHOUT_REASON = re.compile(r"^\w+:$")  # Operations beside the refused one, such as "DEQUANTIZE:".
# lavapipe compiles a shader when it first runs. On a busy machine the accelerator gives up waiting;
# what was compiled by then is kept, so that another attempt gets further.
_GAVE_UP = "Failed to lock custom tensor buffer"
_ATTEMPTS = 5
_ERROR = re.compile(r"Validation error|not supported by GPU delegate|^ERROR\b|^[EF]\d{4} ")


@dataclasses.dataclass(frozen=True)
class DelegateReport:
    """What the GPU accelerator made of one model.

    Attributes:
      whole: every operation compiled for the GPU.
      max_error: largest difference from the CPU's outputs, as a fraction of the range of the output
        it occurs in; infinite if nothing finite was computed.
      log_errors: the accelerator's complaints, such as the operations that it does not support.
      tolerance: the `max_error` that is accepted.
    """

    whole: bool
    max_error: float
    log_errors: list[str]
    tolerance: float = TOLERANCE

    @property
    def passed(self) -> bool:
        """Whether the model is delegated whole, without complaint, and computes what it should."""
        return self.whole and not self.log_errors and self.max_error <= self.tolerance

    def __str__(self) -> str:
        """One line for people: pass or fail, and why."""
        if self.passed:
            return f"whole on the GPU, {self.max_error:.1e} of the output range from the CPU"
        problems = [] if self.whole else ["not whole on the GPU"]
        if self.whole and not self.max_error <= self.tolerance:
            problems.append(
                f"{self.max_error:.1e} of the output range from the CPU, "
                f"{self.tolerance:.1e} is accepted"
            )
        return "; ".join([*problems, *self.log_errors])


def check_on_gpu(
    tflite_path: str | Path,
    inputs: Mapping[str, np.ndarray],
    *,
    half: bool = False,
    tolerance: float | None = None,
    timeout: float = 900.0,
    gpu: vulkan.SoftwareGpu | None = None,
) -> DelegateReport:
    """Compiles and runs a model on a software GPU and compares it with the CPU.

    One process a model: the accelerator shares none with TensorFlow, and may crash. It computes in
    float32, so that the comparison is about the graph and not about half precision, unless `half`
    asks for what phones do.

    Args:
      tflite_path: the model, with one signature.
      inputs: arrays by the signature's input names, of exactly its shapes and types.
      half: compute in half precision, on lavapipe instead of SwiftShader.
      tolerance: the error that is accepted, as a fraction of an output's range; by default
        `TOLERANCE`, or `HALF_TOLERANCE` in half precision.
      timeout: seconds after which the process is ended.
      gpu: the software GPU; found, or fetched on first use, by default.

    Returns:
      The report; a model that is refused is a report, not an exception.

    Raises:
      FileNotFoundError: there is no file at `tflite_path`.
      ValueError: the file is no TFLite model, the inputs are not the model's, or its outputs are 0
        everywhere, so that any GPU would pass.
      RuntimeError: the model could not be tried: there is no software GPU, it does not run on the
        CPU either, or it took too long.

    Example:
      >>> report = check_on_gpu("unet.tflite", {"latent": z, "time_features": t, "context": c})
      >>> assert report.passed, report
    """
    if not Path(tflite_path).is_file():
        raise FileNotFoundError(f"there is no model at {tflite_path}")
    gpu = gpu or (vulkan.half_precision_gpu() if half else vulkan.software_gpu())
    if tolerance is None:
        tolerance = HALF_TOLERANCE if half else TOLERANCE
    with tempfile.TemporaryDirectory() as scratch:
        arrays = Path(scratch) / "inputs.npz"
        np.savez(arrays, **inputs)
        precision = "float16" if half else "float32"
        command = (_SCRIPT, tflite_path, arrays, precision)
        result = _run(command, environment=gpu.environment(), timeout=timeout)
    report = _report(result, tflite_path=Path(tflite_path), adapter=gpu.adapter)
    return dataclasses.replace(report, tolerance=tolerance)


def _run(
    command: tuple[Path | str, ...], *, environment: Mapping[str, str], timeout: float
) -> subprocess.CompletedProcess[str]:
    try:
        for _ in range(_ATTEMPTS):
            result = run_apart(*command, environment=environment, timeout=timeout)
            if _GAVE_UP not in result.stdout:
                break
        return result
    except subprocess.TimeoutExpired:
        raise RuntimeError(
            f"{command[1]}: no result on the software GPU after {timeout:.0f} s; "
            "a larger `timeout` may help"
        ) from None


def _report(
    result: subprocess.CompletedProcess[str], *, tflite_path: Path, adapter: str
) -> DelegateReport:
    """Reads the verdict and the log of a finished process."""
    verdict = json.loads(result.stdout.splitlines()[-1]) if result.returncode == 0 else None
    if verdict and "unusable" in verdict:
        raise ValueError(f"{tflite_path}: {verdict['unusable']}")
    if f"Selected adapter: {adapter}" not in result.stderr:
        log = [line for line in result.stderr.splitlines() if not line.startswith("INFO")]
        raise RuntimeError(f"{tflite_path} never reached the software GPU: {' '.join(log[-3:])}")
    complaints = log_errors(result.stderr)
    if verdict is None:
        died = f"the accelerator's process ended with code {result.returncode}"
        return DelegateReport(False, math.inf, [*complaints, died])
    if not verdict["whole"]:
        return DelegateReport(False, math.inf, complaints or [verdict["reason"]])
    return DelegateReport(True, max(verdict["errors"].values()), complaints)


def log_errors(log: str) -> list[str]:
    """Returns the complaints in the accelerator's log, refused operations and reasons included.

    Args:
      log: what the accelerator wrote to stderr.
    """
    found, listing = [], False
    for line in map(str.strip, log.splitlines()):
        if (listing and not _WITHOUT_REASON.match(line)) or _ERROR.search(line):
            found.append(line)
        listing = bool(_UNSUPPORTED.search(line)) or (listing and not _END_OF_LIST.search(line))
    return found
