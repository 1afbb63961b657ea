"""Files out of Debian's packages, without installing any: apt fetches and checks, dpkg-deb unpacks.

Nothing of the system changes. A package that only a suite beside the machine's own offers, such as
backports, is fetched with lists that are kept in the scratch folder.
"""

import os
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path


def download(package: str, scratch: Path, *, suite: str | None = None) -> Path:
    """Downloads a package, whose hash apt checks, into `scratch`.

    Args:
      package: its name.
      scratch: an empty folder, or one that an earlier call used.
      suite: such as "bookworm-backports", of the archive that the machine is set up for; None is
        the machine's own.

    Returns:
      The file.

    Raises:
      RuntimeError: this is no Debian, or the archive is out of reach.
    """
    _check_tools(package)
    before = set(scratch.glob("*.deb"))
    private = _private_lists(scratch, suite) if suite else []
    wanted = f"{package}/{suite}" if suite else package
    fetch = ["apt-get", *private, "download", wanted]
    if run(fetch, cwd=scratch).returncode:
        # A fresh machine has no package lists, or old ones that name a version that is gone.
        root = [] if os.geteuid() == 0 or private else ["sudo", "-n"]
        run([*root, "apt-get", *private, "update"], cwd=scratch)
        retry = run(fetch, cwd=scratch)
        if retry.returncode:
            reason = (retry.stderr.strip() or "no message").splitlines()[-1]
            raise RuntimeError(
                f"Fetching the software GPU failed: `apt-get download {wanted}` said: {reason} "
                "Check the network, run `apt-get update` as root, and try again."
            )
    return next(iter(set(scratch.glob("*.deb")) - before))


def unpack(package: Path, files: Sequence[str], folder: Path) -> None:
    """Moves files out of a package into `folder`.

    Args:
      package: the .deb file.
      files: patterns of paths in it, such as "**/libz.so.1*"; a link needs its target.
      folder: receives them under their last names.

    Raises:
      RuntimeError: the package cannot be unpacked, or a pattern fits none of its files.
    """
    contents = package.with_suffix("")
    result = run(["dpkg-deb", "--extract", str(package), str(contents)], cwd=package.parent)
    folder.mkdir(parents=True, exist_ok=True)
    for pattern in files:
        found = list(contents.glob(pattern))
        if not found:
            raise RuntimeError(f"{package.name} does not hold {pattern}. {result.stderr.strip()}")
        for path in found:
            path.rename(folder / path.name)


def missing_libraries(library: Path, folder: Path) -> list[str]:
    """Returns the names of shared libraries that `library` needs and that are nowhere.

    Args:
      library: an ELF file.
      folder: searched before the system's own folders.
    """
    result = run(["env", f"LD_LIBRARY_PATH={folder}", "ldd", str(library)], cwd=folder)
    lines = [line.split() for line in result.stdout.splitlines() if line.endswith("not found")]
    return [words[0] for words in lines]


def run(command: Sequence[str], *, cwd: Path) -> subprocess.CompletedProcess[str]:
    """Runs `command`; a missing program counts as a failed run."""
    try:
        return subprocess.run(command, cwd=cwd, capture_output=True, text=True, check=False)
    except FileNotFoundError as error:
        return subprocess.CompletedProcess(command, 127, "", str(error))


def _check_tools(package: str) -> None:
    missing = [tool for tool in ("apt-get", "dpkg-deb") if not shutil.which(tool)]
    if missing:
        raise RuntimeError(
            f"The software GPU comes from Debian's package {package} and this machine has no "
            f"{missing[0]}: use Debian 12"
        )


def _private_lists(scratch: Path, suite: str) -> list[str]:
    """Options that let apt see `suite` of the machine's archive, and write only into `scratch`."""
    state, sources = scratch / "state", scratch / "sources.list"
    (state / "lists" / "partial").mkdir(parents=True, exist_ok=True)
    form = "$(REPO_URI) $(RELEASE) $(SIGNED_BY)"
    listed = ["apt-get", "indextargets", "--format", form, "Created-By: Packages"]
    own = suite.split("-")[0]
    rows = [line.split() for line in run(listed, cwd=scratch).stdout.splitlines()]
    archives = [row for row in rows if len(row) > 1 and row[1] == own]
    if not archives:
        raise RuntimeError(
            f"The software GPU comes from {suite} and this machine's apt knows no {own}: use "
            "Debian 12"
        )
    address, _, *key = archives[0]
    signed = f"[signed-by={key[0]}] " if key and key[0].startswith("/") else ""
    own_and_suite = (f"deb {signed}{address} {name} main\n" for name in (own, suite))
    sources.write_text("".join(own_and_suite))
    options = {
        "Dir::Etc::SourceList": sources,
        "Dir::Etc::SourceParts": "/dev/null",
        "Dir::State": state,
        "Dir::State::Status": "/var/lib/dpkg/status",
        "Dir::Cache": state / "cache",
        "APT::Sandbox::User": "root",  # apt's own user may not enter the scratch folder.
    }
    return [word for name, value in options.items() for word in ("-o", f"{name}={value}")]
