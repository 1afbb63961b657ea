"""The machine that figures were measured on."""

import os
import pathlib
import platform
import re
import sys

_CPU_INFO = pathlib.Path("/proc/cpuinfo")
_STATUS = pathlib.Path("/proc/self/status")


def describe_device() -> str:
    """Returns processor, usable cores and system; "desktop: ..." unless this is a phone.

    Example:
      >>> describe_device()
      'desktop: Intel(R) Xeon(R) CPU @ 2.20GHz, 2 cores, Linux x86_64'
    """
    label = "phone" if hasattr(sys, "getandroidapilevel") else "desktop"
    return f"{label}: {_processor()}, {_cores()} cores, {platform.system()} {platform.machine()}"


def peak_memory_mb() -> float | None:
    """Returns the most resident memory this process ever had, in 10^6 bytes.

    It is Linux's VmHWM, where memory-mapped weights that were touched count; None elsewhere.
    """
    if not _STATUS.is_file():
        return None
    found = re.search(r"^VmHWM:\s+(\d+) kB", _STATUS.read_text(), re.MULTILINE)
    return int(found[1]) * 1024 / 1e6 if found else None


def _processor() -> str:
    if _CPU_INFO.is_file():
        found = re.search(r"^model name\s*:\s*(.+)$", _CPU_INFO.read_text(), re.MULTILINE)
        if found:
            return found[1]
    return platform.processor() or "unknown processor"


def _cores() -> int | None:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count()
