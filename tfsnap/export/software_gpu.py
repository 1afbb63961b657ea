"""Vulkan GPUs in software, so that GPU delegation is tested on machines without a GPU.

SwiftShader computes in float32 alone; lavapipe, Mesa's, has half precision. Both come from Debian's
packages, are fetched once and kept in tfsnap's cache. Timing on them means nothing.
"""

import dataclasses
import os
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path

from tfsnap.export.debian import download, missing_libraries, unpack

INSTALLED = Path("/usr/lib/chromium")
LOADER = "libvulkan.so.1"
BACKPORTS = "bookworm-backports"
LAVAPIPE = "libvulkan_lvp.so"
# Which package holds a library that lavapipe needs, directly or through another; those of a bare
# Debian 12 are not listed.
PACKAGES = {
    "libLLVM-15.so.1": "libllvm15",
    "libX11-xcb.so.1": "libx11-xcb1",
    "libXau.so.6": "libxau6",
    "libXdmcp.so.6": "libxdmcp6",
    "libbsd.so.0": "libbsd0",
    "libdrm.so.2": "libdrm2",
    "libedit.so.2": "libedit2",
    "libelf.so.1": "libelf1",
    "libexpat.so.1": "libexpat1",
    "libffi.so.8": "libffi8",
    "libicudata.so.72": "libicu72",
    "libicuuc.so.72": "libicu72",
    "libmd.so.0": "libmd0",
    "libwayland-client.so.0": "libwayland-client0",
    "libxcb-dri3.so.0": "libxcb-dri3-0",
    "libxcb-present.so.0": "libxcb-present0",
    "libxcb-randr.so.0": "libxcb-randr0",
    "libxcb-shm.so.0": "libxcb-shm0",
    "libxcb-sync.so.1": "libxcb-sync1",
    "libxcb-xfixes.so.0": "libxcb-xfixes0",
    "libxcb.so.1": "libxcb1",
    "libxml2.so.2": "libxml2",
    "libxshmfence.so.1": "libxshmfence1",
    "libz3.so.4": "libz3-4",
}


@dataclasses.dataclass(frozen=True)
class SoftwareGpu:
    """A folder with a Vulkan driver, its manifest and a Vulkan loader.

    Attributes:
      folder: where they are.
      driver: file name of the driver.
      manifest: file name of its manifest.
      adapter: how the driver calls itself in the accelerator's log.
    """

    folder: Path
    driver: str = "libvk_swiftshader.so"
    manifest: str = "vk_swiftshader_icd.json"
    adapter: str = "SwiftShader"

    @property
    def files(self) -> tuple[str, ...]:
        """Names of the files that have to be there."""
        return (self.driver, LOADER, self.manifest)

    def environment(self) -> dict[str, str]:
        """Returns this process's environment, changed so that Vulkan finds only this GPU."""
        manifest = str(self.folder / self.manifest)
        libraries = [str(self.folder), os.environ.get("LD_LIBRARY_PATH", "")]
        return {
            **os.environ,
            "VK_DRIVER_FILES": manifest,
            "VK_ICD_FILENAMES": manifest,  # What loaders before 1.3.207 call the same variable.
            "LD_LIBRARY_PATH": ":".join(filter(None, libraries)),
            # Mesa keeps what it compiled; the second run of a shader is much faster.
            "MESA_SHADER_CACHE_DIR": str(self.folder / "shaders"),
        }

    def is_complete(self) -> bool:
        """Whether all files are there and both libraries are ELF files."""
        if not all((self.folder / name).is_file() for name in self.files):
            return False
        libraries = (self.driver, LOADER)
        return all((self.folder / name).read_bytes()[:4] == b"\x7fELF" for name in libraries)


def software_gpu(folder: Path | None = None) -> SoftwareGpu:
    """Finds SwiftShader, fetching it from Debian's package of Chromium (32 MB) on the first call.

    Args:
      folder: where it is kept; `swiftshader` in $TFSNAP_DATA, or in ~/.cache/tfsnap, by default.

    Returns:
      The software GPU, its files present and sound.

    Raises:
      RuntimeError: it is not there and cannot be fetched: this is no Debian, or the archive is out
        of reach.
    """
    gpu = SoftwareGpu(folder or _cache() / "swiftshader")
    installed = SoftwareGpu(INSTALLED)
    return installed if installed.is_complete() else _ensured(gpu, _unpack_swiftshader)


def half_precision_gpu(folder: Path | None = None) -> SoftwareGpu:
    """Finds lavapipe, fetching Mesa 25 from Debian 12's backports (35 MB) on the first call.

    Args:
      folder: where it is kept; `lavapipe` in $TFSNAP_DATA, or in ~/.cache/tfsnap, by default.

    Returns:
      The software GPU. It computes in half precision what asks for it.

    Raises:
      RuntimeError: as `software_gpu`.
    """
    folder = folder or _cache() / "lavapipe"
    gpu = SoftwareGpu(folder, driver=LAVAPIPE, manifest="lvp_icd.json", adapter="llvmpipe")
    return _ensured(gpu, _unpack_lavapipe)


def _cache() -> Path:
    return Path(os.environ.get("TFSNAP_DATA") or Path.home() / ".cache" / "tfsnap")


def _ensured(gpu: SoftwareGpu, fetch: Callable[[Path, Path], None]) -> SoftwareGpu:
    """Returns `gpu`, after filling its folder with `fetch(scratch, folder)` if need be."""
    if gpu.is_complete():
        return gpu
    parent, name = gpu.folder.parent, gpu.folder.name
    parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=parent, prefix=f".{name}-") as scratch:
        unpacked = Path(scratch) / name
        fetch(Path(scratch), unpacked)
        if not dataclasses.replace(gpu, folder=unpacked).is_complete():
            raise RuntimeError(
                f"Debian's packages do not hold {', '.join(gpu.files)} of {gpu.adapter}: put them "
                f"into {gpu.folder}"
            )
        shutil.rmtree(gpu.folder, ignore_errors=True)
        unpacked.rename(gpu.folder)  # Complete or absent, whenever this process may be killed.
    return gpu


def _unpack_swiftshader(scratch: Path, folder: Path) -> None:
    package = download("chromium-common", scratch)
    unpack(package, [f"usr/lib/chromium/{name}" for name in SoftwareGpu(folder).files], folder)


def _unpack_lavapipe(scratch: Path, folder: Path) -> None:
    mesa = download("mesa-vulkan-drivers", scratch, suite=BACKPORTS)
    unpack(mesa, [f"**/{LAVAPIPE}", "**/lvp_icd.json"], folder)
    unpack(download("libvulkan1", scratch), [f"**/{LOADER}*"], folder)
    # A library that was missing may miss others in turn.
    while missing := missing_libraries(folder / LAVAPIPE, folder):
        unknown = [name for name in missing if name not in PACKAGES]
        if unknown:
            raise RuntimeError(f"lavapipe needs {', '.join(unknown)}, which this machine lacks")
        for name in missing:
            unpack(download(PACKAGES[name], scratch), [f"**/{name}*"], folder)
