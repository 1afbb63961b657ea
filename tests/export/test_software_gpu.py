"""Finding and unpacking the software GPU."""

import os
import subprocess

import pytest

from tfsnap.export import software_gpu as vulkan
from tfsnap.export.software_gpu import SoftwareGpu, software_gpu


@pytest.fixture(autouse=True)
def nothing_installed(monkeypatch, tmp_path):
    """A machine without Chromium."""
    monkeypatch.setattr(vulkan, "INSTALLED", tmp_path / "no-chromium")


def fake_files(folder):
    folder.mkdir(parents=True)
    for name in vulkan.FILES:
        (folder / name).write_bytes(b"\x7fELF" if ".so" in name else b"{}")
    return folder


def test_the_environment_shows_vulkan_only_the_software_gpu(tmp_path, monkeypatch):
    monkeypatch.setenv("LD_LIBRARY_PATH", "/opt/lib")
    environment = SoftwareGpu(tmp_path).environment()
    assert environment["VK_DRIVER_FILES"] == str(tmp_path / "vk_swiftshader_icd.json")
    assert environment["LD_LIBRARY_PATH"] == f"{tmp_path}:/opt/lib"
    assert environment["PATH"] == os.environ["PATH"]


def test_complete_files_are_used_as_they_are(tmp_path, monkeypatch):
    monkeypatch.setattr(vulkan, "_download", lambda scratch: pytest.fail("downloads again"))
    folder = fake_files(tmp_path / "swiftshader")
    assert software_gpu(folder).folder == folder


def test_an_installed_chromium_is_used(tmp_path, monkeypatch):
    monkeypatch.setattr(vulkan, "INSTALLED", fake_files(tmp_path / "chromium"))
    assert software_gpu(tmp_path / "swiftshader").folder == tmp_path / "chromium"


def test_the_cache_is_below_tfsnap_data(tmp_path, monkeypatch):
    monkeypatch.setenv("TFSNAP_DATA", str(tmp_path))
    folder = fake_files(tmp_path / "swiftshader")
    assert software_gpu().folder == folder


def make_package(scratch, folder="usr/lib/chromium"):
    """Builds a Debian package with the three files in `folder`."""
    fake_files(scratch / "root" / folder)
    (scratch / "root" / "DEBIAN").mkdir()
    control = "Package: chromium-common\nVersion: 1\nArchitecture: all\n"
    (scratch / "root" / "DEBIAN" / "control").write_text(
        f"{control}Maintainer: tests <tests@example.org>\nDescription: three files\n"
    )
    package = scratch / "chromium-common.deb"
    build = ["dpkg-deb", "--root-owner-group", "--build", str(scratch / "root"), str(package)]
    subprocess.run(build, check=True, capture_output=True)
    return package


def test_a_broken_copy_is_replaced_whole(tmp_path, monkeypatch):
    folder = fake_files(tmp_path / "swiftshader")
    (folder / vulkan.DRIVER).write_bytes(b"")  # A download that a full disk cut short.
    monkeypatch.setattr(vulkan, "_download", make_package)
    assert software_gpu(folder).folder == folder
    assert (folder / vulkan.DRIVER).read_bytes() == b"\x7fELF"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["swiftshader"]  # No scratch left.


def test_a_package_without_the_files_leaves_nothing_behind(tmp_path, monkeypatch):
    monkeypatch.setattr(vulkan, "_download", lambda scratch: make_package(scratch, "usr/lib/else"))
    with pytest.raises(RuntimeError, match="does not hold libvk_swiftshader.so"):
        software_gpu(tmp_path / "cache" / "swiftshader")
    assert not list((tmp_path / "cache").iterdir())


def test_without_debians_tools_the_error_says_what_to_do(tmp_path, monkeypatch):
    monkeypatch.setattr(vulkan.shutil, "which", lambda tool: None)
    with pytest.raises(RuntimeError, match=r"no apt-get.*put libvk_swiftshader\.so"):
        software_gpu(tmp_path / "swiftshader")


def test_a_failing_download_quotes_apt(tmp_path, monkeypatch):
    commands = []

    def run(command, *, cwd):
        commands.append(" ".join(command))
        return subprocess.CompletedProcess(command, 100, "", "E: Unable to locate package x\n")

    monkeypatch.setattr(vulkan, "_run", run)
    with pytest.raises(RuntimeError, match=r"E: Unable to locate package x.*apt-get update"):
        software_gpu(tmp_path / "swiftshader")
    fetch = "apt-get download chromium-common"
    assert (commands[0], commands[2]) == (fetch, fetch)
    assert commands[1].endswith("apt-get update")
