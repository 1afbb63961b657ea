"""Finding and unpacking the software GPUs."""

import os
import subprocess
from pathlib import Path

import pytest

from tfsnap.export import debian
from tfsnap.export import software_gpu as vulkan
from tfsnap.export.software_gpu import SoftwareGpu, half_precision_gpu, software_gpu

SWIFTSHADER = SoftwareGpu(Path())


@pytest.fixture(autouse=True)
def nothing_installed(monkeypatch, tmp_path):
    """A machine without Chromium."""
    monkeypatch.setattr(vulkan, "INSTALLED", tmp_path / "no-chromium")


def fake_files(folder, names=SWIFTSHADER.files):
    folder.mkdir(parents=True)
    for name in names:
        (folder / name).write_bytes(b"\x7fELF" if ".so" in name else b"{}")
    return folder


def test_the_environment_shows_vulkan_only_the_software_gpu(tmp_path, monkeypatch):
    monkeypatch.setenv("LD_LIBRARY_PATH", "/opt/lib")
    environment = SoftwareGpu(tmp_path).environment()
    assert environment["VK_DRIVER_FILES"] == str(tmp_path / "vk_swiftshader_icd.json")
    assert environment["LD_LIBRARY_PATH"] == f"{tmp_path}:/opt/lib"
    assert environment["PATH"] == os.environ["PATH"]


def test_complete_files_are_used_as_they_are(tmp_path, monkeypatch):
    monkeypatch.setattr(vulkan, "download", lambda *args, **kw: pytest.fail("downloads again"))
    folder = fake_files(tmp_path / "swiftshader")
    assert software_gpu(folder).folder == folder


def test_an_installed_chromium_is_used(tmp_path, monkeypatch):
    monkeypatch.setattr(vulkan, "INSTALLED", fake_files(tmp_path / "chromium"))
    assert software_gpu(tmp_path / "swiftshader").folder == tmp_path / "chromium"


def test_the_cache_is_below_tfsnap_data(tmp_path, monkeypatch):
    monkeypatch.setenv("TFSNAP_DATA", str(tmp_path))
    folder = fake_files(tmp_path / "swiftshader")
    assert software_gpu().folder == folder
    names = ("libvulkan_lvp.so", "libvulkan.so.1", "lvp_icd.json")
    assert half_precision_gpu(fake_files(tmp_path / "other", names)).adapter == "llvmpipe"


def make_package(scratch, files, name="chromium-common"):
    """Builds a Debian package with `files`."""
    root = scratch / f"root-{name}"
    for file in files:
        (root / file).parent.mkdir(parents=True, exist_ok=True)
        (root / file).write_bytes(b"\x7fELF" if ".so" in file else b"{}")
    (root / "DEBIAN").mkdir()
    control = f"Package: {name}\nVersion: 1\nArchitecture: all\n"
    (root / "DEBIAN" / "control").write_text(
        f"{control}Maintainer: tests <tests@example.org>\nDescription: some files\n"
    )
    package = scratch / f"{name}.deb"
    build = ["dpkg-deb", "--root-owner-group", "--build", str(root), str(package)]
    subprocess.run(build, check=True, capture_output=True)
    return package


def chromium(name, scratch, folder="usr/lib/chromium"):
    return make_package(scratch, [f"{folder}/{file}" for file in SWIFTSHADER.files], name)


def test_a_broken_copy_is_replaced_whole(tmp_path, monkeypatch):
    folder = fake_files(tmp_path / "swiftshader")
    # A download that a full disk cut short.
    (folder / SWIFTSHADER.driver).write_bytes(b"")
    monkeypatch.setattr(vulkan, "download", chromium)
    assert software_gpu(folder).folder == folder
    assert (folder / SWIFTSHADER.driver).read_bytes() == b"\x7fELF"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["swiftshader"]  # No scratch left.


def test_a_package_without_the_files_leaves_nothing_behind(tmp_path, monkeypatch):
    monkeypatch.setattr(vulkan, "download", lambda *args: chromium(*args, folder="usr/lib/else"))
    with pytest.raises(RuntimeError, match=r"does not hold .*libvk_swiftshader\.so"):
        software_gpu(tmp_path / "cache" / "swiftshader")
    assert not list((tmp_path / "cache").iterdir())


def test_lavapipe_brings_the_libraries_that_the_machine_lacks(tmp_path, monkeypatch):
    """A library that was fetched misses another one, which is fetched then."""
    contents = {
        "mesa-vulkan-drivers": ["usr/lib/x/libvulkan_lvp.so", "usr/share/vulkan/lvp_icd.json"],
        "libvulkan1": ["usr/lib/x/libvulkan.so.1"],
        "libxml2": ["usr/lib/x/libxml2.so.2.9"],
        "libicu72": ["usr/lib/x/libicuuc.so.72", "usr/lib/x/libicudata.so.72"],
    }
    fetched = []

    def download(name, scratch, *, suite=None):
        fetched.append((name, suite))
        folder = scratch / f"{len(fetched)}"
        folder.mkdir()
        return make_package(folder, contents[name], name)

    def missing(library, folder):
        has = {path.name for path in folder.iterdir()}
        if "libxml2.so.2.9" not in has:
            return ["libxml2.so.2"]
        return [] if "libicuuc.so.72" in has else ["libicuuc.so.72"]

    monkeypatch.setattr(vulkan, "download", download)
    monkeypatch.setattr(vulkan, "missing_libraries", missing)
    gpu = half_precision_gpu(tmp_path / "lavapipe")
    assert gpu.is_complete()
    assert (gpu.folder / "libicuuc.so.72").is_file()
    packages = ["mesa-vulkan-drivers", "libvulkan1", "libxml2", "libicu72"]
    assert fetched == [
        (packages[0], "bookworm-backports"),
        *((name, None) for name in packages[1:]),
    ]


def test_missing_libraries_are_named(tmp_path):
    assert debian.missing_libraries(Path("/bin/sh").resolve(), tmp_path) == []
    source = tmp_path / "needs.c"
    source.write_text("int main(void) { return 0; }")
    (tmp_path / "empty.c").write_text("int nothing;")
    build = ["gcc", "-shared", "-o", str(tmp_path / "libgone.so"), str(tmp_path / "empty.c")]
    link = ["gcc", "-Wl,--no-as-needed", "-o", str(tmp_path / "needs"), str(source)]
    try:
        subprocess.run(build, check=True)
        subprocess.run([*link, f"-L{tmp_path}", "-lgone"], check=True)
    except FileNotFoundError:
        pytest.skip("there is no gcc to make a program that misses a library")
    (tmp_path / "libgone.so").unlink()
    assert debian.missing_libraries(tmp_path / "needs", tmp_path) == ["libgone.so"]


def test_without_debians_tools_the_error_says_what_to_do(tmp_path, monkeypatch):
    monkeypatch.setattr(debian.shutil, "which", lambda tool: None)
    with pytest.raises(RuntimeError, match=r"chromium-common .*no apt-get: use Debian 12"):
        software_gpu(tmp_path / "swiftshader")


@pytest.fixture
def failing_apt(monkeypatch):
    """Every command fails as apt does; their words are kept."""
    commands = []

    def run(command, *, cwd):
        commands.append(" ".join(command))
        if "indextargets" in command:
            return subprocess.CompletedProcess(command, 0, "http://archive/ bookworm -\n", "")
        return subprocess.CompletedProcess(command, 100, "", "E: Unable to locate package x\n")

    monkeypatch.setattr(debian, "run", run)
    return commands


def test_a_failing_download_quotes_apt(tmp_path, failing_apt):
    with pytest.raises(RuntimeError, match=r"E: Unable to locate package x.*apt-get update"):
        software_gpu(tmp_path / "swiftshader")
    fetch = "apt-get download chromium-common"
    assert (failing_apt[0], failing_apt[2]) == (fetch, fetch)
    assert failing_apt[1].endswith("apt-get update")


def test_another_suite_is_seen_by_lists_of_its_own(tmp_path, failing_apt):
    """The machine's sources and lists stay as they are, and no root is needed."""
    with pytest.raises(RuntimeError, match="mesa-vulkan-drivers/bookworm-backports"):
        debian.download("mesa-vulkan-drivers", tmp_path, suite="bookworm-backports")
    sources = (tmp_path / "sources.list").read_text().splitlines()
    assert sources == [f"deb http://archive/ {s} main" for s in ("bookworm", "bookworm-backports")]
    for command in failing_apt[1:]:
        assert command.startswith(f"apt-get -o Dir::Etc::SourceList={tmp_path}")
        assert f"Dir::State={tmp_path}/state" in command


def test_another_debian_is_told(tmp_path, failing_apt):
    with pytest.raises(RuntimeError, match="apt knows no trixie: use Debian 12"):
        debian.download("mesa-vulkan-drivers", tmp_path, suite="trixie-backports")
