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
_SCRIPT = Path(__file__).with_name("delegate_process.py")
_UNSUPPORTED = re.compile(r"not supported by GPU delegate")
_END_OF_LIST = re.compile(r"will run on the CPU")
_WITHOUT_REASON = re.compile(r"^\w+:$")  # Operations beside the refused one, such as "DEQUANTIZE:".
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
    tolerance: float = TOLERANCE,
    timeout: float = 900.0,
    gpu: vulkan.SoftwareGpu | None = None,
) -> DelegateReport:
    """Compiles and runs a model on the software GPU and compares it with the CPU.

    One process a model: the accelerator shares none with TensorFlow, and may crash. It computes in
    float32, so that the comparison is about the graph and not about half precision.

    Args:
      tflite_path: the model, with one signature.
      inputs: arrays by the signature's input names, of exactly its shapes and types.
      tolerance: the error that is accepted, as a fraction of an output's range.
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
    gpu = gpu or vulkan.software_gpu()
    with tempfile.TemporaryDirectory() as scratch:
        arrays = Path(scratch) / "inputs.npz"
        np.savez(arrays, **inputs)
        result = _run(Path(tflite_path), arrays, gpu=gpu, timeout=timeout)
    return _report(result, tflite_path=Path(tflite_path), tolerance=tolerance)


def _run(
    tflite_path: Path, arrays: Path, *, gpu: vulkan.SoftwareGpu, timeout: float
) -> subprocess.CompletedProcess[str]:
    environment = gpu.environment()
    try:
        return run_apart(_SCRIPT, tflite_path, arrays, environment=environment, timeout=timeout)
    except subprocess.TimeoutExpired:
        raise RuntimeError(
            f"{tflite_path}: no result on the software GPU after {timeout:.0f} s; "
            "a larger `timeout` may help"
        ) from None


def _report(
    result: subprocess.CompletedProcess[str], *, tflite_path: Path, tolerance: float
) -> DelegateReport:
    """Reads the verdict and the log of a finished process."""
    verdict = json.loads(result.stdout.splitlines()[-1]) if result.returncode == 0 else None
    if verdict and "unusable" in verdict:
        raise ValueError(f"{tflite_path}: {verdict['unusable']}")
    if "Selected adapter: SwiftShader" not in result.stderr:
        log = [line for line in result.stderr.splitlines() if not line.startswith("INFO")]
        raise RuntimeError(f"{tflite_path} never reached the software GPU: {' '.join(log[-3:])}")
    complaints = log_errors(result.stderr)
    if verdict is None:
        died = f"the accelerator's process ended with code {result.returncode}"
        return DelegateReport(False, math.inf, [*complaints, died], tolerance)
    if not verdict["whole"]:
        return DelegateReport(False, math.inf, complaints or [verdict["reason"]], tolerance)
    return DelegateReport(True, max(verdict["errors"].values()), complaints, tolerance)


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
