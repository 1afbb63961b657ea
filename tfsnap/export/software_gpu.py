"""SwiftShader: a Vulkan GPU in software, so that GPU delegation is tested on machines without one.

Debian ships SwiftShader inside Chromium. Three files of that package are enough; they are fetched
once (about 32 MB) and kept in tfsnap's cache. Timing on it means nothing.
"""

import dataclasses
import os
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path

PACKAGE = "chromium-common"
PACKAGED = Path("usr/lib/chromium")
INSTALLED = Path("/") / PACKAGED
DRIVER = "libvk_swiftshader.so"
LOADER = "libvulkan.so.1"
MANIFEST = "vk_swiftshader_icd.json"
FILES = (DRIVER, LOADER, MANIFEST)


@dataclasses.dataclass(frozen=True)
class SoftwareGpu:
    """A folder with SwiftShader's driver, its manifest and a Vulkan loader."""

    folder: Path

    def environment(self) -> dict[str, str]:
        """Returns this process's environment, changed so that Vulkan finds only SwiftShader."""
        manifest = str(self.folder / MANIFEST)
        libraries = [str(self.folder), os.environ.get("LD_LIBRARY_PATH", "")]
        return {
            **os.environ,
            "VK_DRIVER_FILES": manifest,
            "VK_ICD_FILENAMES": manifest,  # What loaders before 1.3.207 call the same variable.
            "LD_LIBRARY_PATH": ":".join(filter(None, libraries)),
        }


def software_gpu(folder: Path | None = None) -> SoftwareGpu:
    """Finds SwiftShader, fetching it from Debian's package on the first call.

    Args:
      folder: where it is kept; `swiftshader` in $TFSNAP_DATA, or in ~/.cache/tfsnap, by default.

    Returns:
      The software GPU, its three files present and sound.

    Raises:
      RuntimeError: it is not there and cannot be fetched: this is no Debian, or the archive is out
        of reach.
    """
    if folder is None:
        cache = os.environ.get("TFSNAP_DATA") or Path.home() / ".cache" / "tfsnap"
        folder = Path(cache) / "swiftshader"
    for candidate in (folder, INSTALLED):
        if _is_complete(candidate):
            return SoftwareGpu(candidate)
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=".swiftshader-") as scratch:
        unpacked = _unpack(_download(Path(scratch)))
        shutil.rmtree(folder, ignore_errors=True)
        unpacked.rename(folder)  # Complete or absent, whenever this process may be killed.
    return SoftwareGpu(folder)


def _is_complete(folder: Path) -> bool:
    """Whether all three files are there and both libraries are ELF files."""
    if not all((folder / name).is_file() for name in FILES):
        return False
    return all((folder / name).read_bytes()[:4] == b"\x7fELF" for name in (DRIVER, LOADER))


def _download(scratch: Path) -> Path:
    """Downloads Debian's package, whose hash apt checks, into `scratch`."""
    missing = [tool for tool in ("apt-get", "dpkg-deb") if not shutil.which(tool)]
    if missing:
        raise RuntimeError(
            f"The software GPU comes from Debian's package {PACKAGE} and this machine has no "
            f"{missing[0]}: use Debian 12, or put {', '.join(FILES)} into {INSTALLED}."
        )
    fetch = ["apt-get", "download", PACKAGE]
    if _run(fetch, cwd=scratch).returncode:
        # A fresh machine has no package lists, or old ones that name a version that is gone.
        _run([*([] if os.geteuid() == 0 else ["sudo", "-n"]), "apt-get", "update"], cwd=scratch)
        retry = _run(fetch, cwd=scratch)
        if retry.returncode:
            reason = (retry.stderr.strip() or "no message").splitlines()[-1]
            raise RuntimeError(
                f"Fetching the software GPU failed: `{' '.join(fetch)}` said: {reason} "
                "Check the network, run `apt-get update` as root, and try again."
            )
    return next(scratch.glob("*.deb"))


def _unpack(package: Path) -> Path:
    """Extracts `package` and returns a folder beside it with the three files."""
    contents, folder = package.parent / "contents", package.parent / "swiftshader"
    result = _run(["dpkg-deb", "--extract", str(package), str(contents)], cwd=package.parent)
    folder.mkdir()
    for name in FILES:
        if (contents / PACKAGED / name).is_file():
            (contents / PACKAGED / name).rename(folder / name)
    if result.returncode or not _is_complete(folder):
        raise RuntimeError(
            f"{package.name} does not hold {', '.join(FILES)} in /{PACKAGED}, where SwiftShader is "
            f"expected. {result.stderr.strip()}"
        )
    return folder


def _run(command: Sequence[str], *, cwd: Path) -> subprocess.CompletedProcess[str]:
    """Runs `command`; a missing program counts as a failed run."""
    try:
        return subprocess.run(command, cwd=cwd, capture_output=True, text=True, check=False)
    except FileNotFoundError as error:
        return subprocess.CompletedProcess(command, 127, "", str(error))
