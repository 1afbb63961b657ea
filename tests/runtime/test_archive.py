"""A bundle in one file: members where they can be mapped, and nothing lost when writing fails."""

import errno
import hashlib
import json
import mmap
import os
import shutil
import signal
import subprocess
import zipfile

import pytest

from tests.runtime.processes import ROOT, complaint, run, run_code
from tfsnap.runtime import Bundle, BundleError
from tfsnap.runtime import archive as archive_module
from tfsnap.runtime.archive import PAGE, data_offset, read_archive, write_archive
from tfsnap.runtime.publish import publish, require_replaceable

TOOL = ROOT / "tools/pack_bundle.py"
SPARE_MB = 64


@pytest.fixture(scope="module")
def packed(tiny_bundle, session_dir):
    path = session_dir / "tiny.tfsnap"
    write_archive(tiny_bundle, path)
    return path


def enlarge(folder):
    """Lengthens the text encoder by `SPARE_MB` that no reader looks at."""
    path = folder / "text_encoder.tflite"
    os.truncate(path, path.stat().st_size + SPARE_MB * 2**20)
    manifest = json.loads((folder / "manifest.json").read_text())
    sha256 = hashlib.sha256(path.read_bytes()).hexdigest()
    manifest["components"]["text_encoder"].update(sha256=sha256)
    (folder / "manifest.json").write_text(json.dumps(manifest))


def contents(folder):
    files = (path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}


def test_it_opens_as_its_folder(tiny_bundle, packed):
    assert Bundle.open(packed).manifest == Bundle.open(tiny_bundle).manifest


def test_every_member_can_be_mapped_where_it_lies(tiny_bundle, packed):
    wanted = contents(tiny_bundle)
    with packed.open("rb") as file, zipfile.ZipFile(packed) as archive:
        assert archive.namelist()[0] == "manifest.json"
        assert sorted(archive.namelist()) == sorted(wanted)
        for member in archive.infolist():
            offset = data_offset(file, member)
            assert offset % PAGE == 0
            if member.file_size:
                with mmap.mmap(
                    file.fileno(), member.file_size, access=mmap.ACCESS_READ, offset=offset
                ) as mapped:
                    assert bytes(mapped) == wanted[member.filename]


@pytest.mark.parametrize("program", [["unzip", "-t"], ["zipinfo"]])
def test_other_programs_read_it(packed, program):
    if shutil.which(program[0]) is None:
        pytest.skip(f"{program[0]} is not installed")
    subprocess.run([*program, packed], check=True, capture_output=True)


def test_equal_bundles_are_equal_files(tiny_bundle, packed, tmp_path):
    again = shutil.copytree(tiny_bundle, tmp_path / "again")
    write_archive(again, tmp_path / "again.tfsnap")
    assert (tmp_path / "again.tfsnap").read_bytes() == packed.read_bytes()


def test_members_of_gigabytes_are_aligned_too(tmp_path, monkeypatch):
    """zipfile adds a field to the headers of such members; here all are such."""
    monkeypatch.setattr(zipfile, "ZIP64_LIMIT", 1000)
    folder = tmp_path / "folder"
    folder.mkdir()
    for name, size in (("manifest.json", 10), ("a", 5000), ("b", 960), ("c", 2000)):
        (folder / name).write_bytes(bytes(range(10)) * (size // 10))
    write_archive(folder, tmp_path / "x.tfsnap")
    with (tmp_path / "x.tfsnap").open("rb") as file, zipfile.ZipFile(file) as archive:
        for member in archive.infolist():
            offset = data_offset(file, member)
            assert offset % PAGE == 0
            file.seek(offset)
            assert file.read(member.file_size) == archive.read(member)


def test_back_to_a_folder(tiny_bundle, packed, tmp_path):
    read_archive(packed, tmp_path / "folder")
    assert contents(tmp_path / "folder") == contents(tiny_bundle)


def test_a_full_disk_leaves_the_old_file(tiny_bundle, packed, tmp_path, monkeypatch):
    output = shutil.copy(packed, tmp_path / "x.tfsnap")
    folder = shutil.copytree(tiny_bundle, tmp_path / "new")

    def full(source, target, length):
        target.write(b"half")
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(archive_module.shutil, "copyfileobj", full)
    with pytest.raises(OSError, match="No space left"):
        publish(folder, output)
    assert output.read_bytes() == packed.read_bytes()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["new", "x.tfsnap"]


def test_a_copy_without_room_is_told(packed, monkeypatch):
    def full(source, target, length):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("tfsnap.runtime.lending.shutil.copyfileobj", full)
    with (
        pytest.raises(BundleError, match=r"unet.tflite cannot be copied to .*: set TMPDIR to"),
        Bundle.open(packed).model("unet"),
    ):
        pass


def test_a_folder_for_the_copy_that_cannot_be_made_is_told(packed, monkeypatch):
    def refuse(*args, **kwargs):
        raise FileNotFoundError(errno.ENOENT, "No usable temporary directory found in ['/tmp']")

    monkeypatch.setattr("tempfile.mkdtemp", refuse)
    bundle = Bundle.open(packed)
    told = r"unet.tflite cannot be copied to a temporary folder: No usable .*: set TMPDIR to"
    with pytest.raises(BundleError, match=told), bundle.model("unet"):
        pass
    bundle.tokenizer()  # Which needs none.


FORKED = """
import json, multiprocessing, os, sys
from tfsnap.runtime import Bundle

bundle = Bundle.open(sys.argv[1])
whole = bundle.read("text_encoder.tflite")
os.chdir("/")

def read(_):
    for _ in range(50):
        with bundle.model("text_encoder") as path:
            if path.read_bytes() != whole:
                return "other bytes"

with multiprocessing.get_context("fork").Pool(4) as pool:
    print(json.dumps(pool.map(read, range(4))))
"""


def test_forked_processes_share_an_archive(packed):
    """As the workers of a server do."""
    assert run_code(FORKED, os.path.relpath(packed)) == [None] * 4


def test_a_forked_process_finds_another_archive(packed, tmp_path, monkeypatch):
    path = shutil.copy(packed, tmp_path / "x.tfsnap")
    bundle = Bundle.open(path)
    os.replace(shutil.copy(packed, tmp_path / "y.tfsnap"), path)
    with bundle.model("unet"):
        pass  # What was opened is still there.
    monkeypatch.setattr("os.getpid", lambda: 1)
    with (
        pytest.raises(BundleError, match=r"another file is there now: .* since it was opened"),
        bundle.model("unet"),
    ):
        pass
    with pytest.raises(BundleError, match=r"another file is there now: .* since it was opened"):
        bundle.tokenizer()


@pytest.mark.parametrize("sizes", [(0,), (1000, None), (-4096,)])
def test_an_archive_that_is_overwritten_while_it_is_open(packed, tmp_path, sizes):
    """Such as by `cp`, under a program that loads one network at a time."""
    path = shutil.copy(packed, tmp_path / "x.tfsnap")
    bundle, whole = Bundle.open(path), path.stat().st_size
    for size in sizes:
        os.truncate(path, whole if size is None else size % whole)
    with (
        pytest.raises(BundleError, match=r"unet.tflite cannot be read: \w.* since it was opened"),
        bundle.model("unet"),
    ):
        pass


@pytest.mark.parametrize("name", ["thesis.tfsnap", "folder.tfsnap", "folder"])
def test_what_is_no_bundle_is_not_replaced(tmp_path, name):
    path = tmp_path / name
    if name.startswith("folder"):
        path.mkdir()
    else:
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("thesis.txt", "years of work")
    with pytest.raises(FileExistsError, match="exists and is no"):
        require_replaceable(path)


@pytest.mark.parametrize("name", ["x.tfsnap", "x"])
@pytest.mark.parametrize(
    "content",
    [
        b'{"format": "web-app", "name": "x"}',
        b'{"name": "x"}',
        b"[1]",
        b"{",
        b"\xff\xfe",
        b"[" * 10**5,
    ],
)
def test_another_manifest_json_makes_no_bundle(tmp_path, name, content):
    """Web pages, browsers' extensions and prepared data have a file of that name."""
    folder = tmp_path / "x"
    folder.mkdir()
    (folder / "manifest.json").write_bytes(content)
    if name != "x":
        write_archive(folder, tmp_path / name)
    with pytest.raises(FileExistsError, match=r"exists and is no.*; choose another --output"):
        require_replaceable(tmp_path / name)


def test_a_bundle_of_any_version_is_replaced(edit, tmp_path):
    folder = edit(lambda manifest: manifest.update(format_version=99))
    write_archive(folder, tmp_path / "x.tfsnap")
    for output in (folder, tmp_path / "x.tfsnap"):
        require_replaceable(output)


@pytest.mark.parametrize("place", [0, 6])
def test_a_damaged_archive_is_not_replaced(packed, tmp_path, place):
    content = bytearray(packed.read_bytes())
    content[content.rindex(b"PK\x01\x02") + place] = 99
    path = tmp_path / "x.tfsnap"
    path.write_bytes(content)
    with pytest.raises(FileExistsError, match="is no bundle in one file; choose another"):
        require_replaceable(path)


def test_the_program_packs_and_unpacks(tiny_bundle, packed, tmp_path):
    there = run([TOOL, f"--bundle={tiny_bundle}", f"--output={tmp_path}/x.tfsnap"])
    assert there.returncode == 0, there.stderr
    assert (tmp_path / "x.tfsnap").read_bytes() == packed.read_bytes()
    back = run([TOOL, f"--bundle={tmp_path}/x.tfsnap", f"--output={tmp_path}/back"])
    assert back.returncode == 0, back.stderr
    assert contents(tmp_path / "back") == contents(tiny_bundle)
    refused = run([TOOL, f"--bundle={tmp_path}/none", f"--output={tmp_path}/x.tfsnap"])
    assert complaint(refused).startswith("pack_bundle: No bundle at")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["back", "x.tfsnap"]


def test_others_may_read_what_is_packed_and_unpacked(packed, tmp_path):
    with zipfile.ZipFile(packed) as archive:
        assert {member.external_attr >> 16 for member in archive.infolist()} == {0o644}
    done = run([TOOL, f"--bundle={packed}", f"--output={tmp_path}/back"])
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "back").stat().st_mode & 0o777 == 0o755


def test_the_program_replaces_bundles_only(tiny_bundle, tmp_path):
    thesis = tmp_path / "folder" / "thesis.txt"
    thesis.parent.mkdir()
    thesis.write_text("years of work")
    refused = run([TOOL, f"--bundle={tiny_bundle}", f"--output={thesis.parent}"])
    assert "exists and is not a bundle; choose another --output" in complaint(refused)
    assert thesis.read_text() == "years of work"


# Kills itself where the new folder would take the place of the old one, which is away already.
KILLED = """
import os, pathlib, signal, sys
from tools.pack_bundle import repack
source, output = map(pathlib.Path, sys.argv[1:])
real = os.replace
def replace(old, new):
    if new == output:
        os.kill(os.getpid(), signal.SIGKILL)
    real(old, new)
os.replace = replace
repack(source, output)
"""


@pytest.fixture
def killed(copied, tiny_bundle):
    """Where a process was killed while it put another bundle in a bundle's place."""
    (copied / "README.md").write_text("the earlier one")
    done = run(["-c", KILLED, tiny_bundle, copied])
    assert done.returncode == -signal.SIGKILL, done.stderr
    left = [path.name for path in copied.parent.iterdir()]
    assert len(left) == 2 and ".copy.old" in left
    return copied


def test_the_program_removes_what_a_killed_one_left(killed, tiny_bundle):
    done = run([TOOL, f"--bundle={tiny_bundle}", f"--output={killed}"])
    assert done.returncode == 0, done.stderr
    assert contents(killed) == contents(tiny_bundle)
    assert [path.name for path in killed.parent.iterdir()] == ["copy"]


def test_the_program_brings_back_what_a_killed_one_took_away(killed, tiny_bundle, tmp_path):
    source = shutil.copytree(tiny_bundle, tmp_path / "source")
    (source / "x").symlink_to("nowhere")
    assert run([TOOL, f"--bundle={source}", f"--output={killed}"]).returncode == 1
    assert (killed / "README.md").read_text() == "the earlier one"
    assert sorted(path.name for path in killed.parent.iterdir()) == ["copy", "source"]


def test_publishing_itself_keeps_the_old_bundle_until_the_new_one_is_there(killed, tiny_bundle):
    def gone(*arguments):
        raise OSError(errno.EIO, "Input/output error")

    new = shutil.copytree(tiny_bundle, killed.parent / "new")
    with pytest.MonkeyPatch.context() as patch, pytest.raises(OSError, match="Input/output"):
        patch.setattr("os.replace", gone)
        publish(new, killed)
    assert (killed.parent / ".copy.old" / "README.md").read_text() == "the earlier one"


def test_a_link_that_leads_nowhere_is_one_line(copied, tmp_path):
    (copied / "notes.md").symlink_to("nowhere.md")
    done = run([TOOL, f"--bundle={copied}", f"--output={tmp_path}/x"])
    assert complaint(done) == (
        f"pack_bundle: {copied}/notes.md is a link to nowhere.md, which is not there: remove or "
        "mend it"
    )
    assert [path.name for path in tmp_path.iterdir()] == ["copy"]


def test_all_files_of_a_folder_are_copied(copied, tmp_path):
    (copied / "notes").mkdir()
    (copied / "notes" / "a.md").write_text("more")
    (copied / "b.md").symlink_to("notes/a.md")
    done = run([TOOL, f"--bundle={copied}", f"--output={tmp_path}/x"])
    assert done.returncode == 0, done.stderr
    assert contents(tmp_path / "x") == contents(copied)
    assert not (tmp_path / "x" / "b.md").is_symlink()


def test_what_a_killed_process_left_is_no_hindrance(tiny_bundle, tmp_path):
    output, old = tmp_path / "x", tmp_path / ".x.old"
    for folder in (output, old):
        shutil.copytree(tiny_bundle, folder)
    publish(shutil.copytree(tiny_bundle, tmp_path / "new"), output)
    assert [path.name for path in tmp_path.iterdir()] == ["x"]
    Bundle.open(output)


def test_a_damaged_member_that_the_manifest_does_not_name(copied, tmp_path):
    """Opening the bundle reads no such file; unpacking it does."""
    (copied / "README.txt").write_text("to be read first")
    packed = tmp_path / "x.tfsnap"
    write_archive(copied, packed)
    packed.write_bytes(packed.read_bytes().replace(b"to be read first", b"to be read last."))
    done = run([TOOL, f"--bundle={packed}", f"--output={tmp_path}/folder"])
    assert complaint(done) == (
        f"pack_bundle: {packed} is cut short or damaged (Bad CRC-32 for file 'README.txt'): copy "
        "or export it again"
    )
    assert sorted(path.name for path in tmp_path.iterdir()) == ["copy", "x.tfsnap"]


@pytest.mark.parametrize("name", ["x.tfsnap", "inner/folder"])
def test_a_bundle_is_not_packed_into_itself(copied, name):
    """It would hold a second copy of everything."""
    before = contents(copied)
    done = run([TOOL, f"--bundle={copied}", f"--output={copied / name}"])
    assert complaint(done).endswith("is in the bundle itself: give a name outside of it")
    assert contents(copied) == before


@pytest.mark.parametrize("name", ["inner", "in.tfsnap", "link.tfsnap"])
@pytest.mark.parametrize("output", ["copy", "latest"])
def test_a_bundle_is_not_packed_over_itself(copied, packed, tiny_bundle, name, output):
    """It would go with the bundle that it is in."""
    shutil.copytree(tiny_bundle, copied / "inner")
    shutil.copy(packed, copied / "in.tfsnap")
    (copied / "link.tfsnap").symlink_to("in.tfsnap")
    (copied.parent / "latest").symlink_to(copied)
    before = contents(copied)
    source, output = copied / name, copied.parent / output
    done = run([TOOL, f"--bundle={source}", f"--output={output}"])
    assert complaint(done) == (
        f"pack_bundle: --bundle={source} is in {copied}, which --output={output} replaces as a "
        "whole: choose another --output"
    )
    assert contents(copied) == before


def test_what_is_left_of_an_interrupted_exchange_is_not_packed_where_it_goes(killed):
    old = killed.parent / ".copy.old"
    done = run([TOOL, f"--bundle={old}", f"--output={killed}"])
    assert f"--bundle={old} is in {old}, which --output={killed} replaces" in complaint(done)
    assert (old / "README.md").read_text() == "the earlier one"


def test_a_bundle_may_take_its_own_place(copied):
    (copied / "README.md").write_text("still there")
    before = contents(copied)
    assert run([TOOL, f"--bundle={copied}", f"--output={copied}"]).returncode == 0
    assert contents(copied) == before


def test_an_archive_is_loaded_into_no_more_memory_than_a_folder(
    tiny_bundle, session_dir, interpreter
):
    """A member that was read into `bytes` would be memory of the process's own."""
    code = """
    import json, pathlib, re, sys
    import numpy as np
    from tfsnap.runtime.bundle import Bundle
    from tfsnap.runtime.components import load_component

    def own():
        status = pathlib.Path("/proc/self/status").read_text()
        return int(re.search(r"RssAnon:\\s+(\\d+)", status)[1]) // 1024

    bundle = Bundle.open(sys.argv[1])
    load_component(bundle, "decoder")  # What a first network costs by itself.
    before = own()
    network = load_component(bundle, "text_encoder")
    network(tokens=np.zeros([1, 16], np.int32))
    print(json.dumps(own() - before))
    """
    folder = shutil.copytree(tiny_bundle, session_dir / f"large-{interpreter}")
    path = session_dir / f"large-{interpreter}.tfsnap"
    enlarge(folder)
    write_archive(folder, path)
    apart = [run_code(code, bundle, interpreter=interpreter) for bundle in (folder, path)]
    assert abs(apart[1] - apart[0]) < SPARE_MB / 2
