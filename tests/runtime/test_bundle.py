"""A bundle opens from a folder and a zip alike, and damage is told with file and component."""

import json
import shutil
import zipfile

import numpy as np
import pytest
from safetensors.numpy import load

from tfsnap.runtime import Bundle, BundleError


def zipped(folder, path, *, compression=zipfile.ZIP_STORED, extra=()):
    with zipfile.ZipFile(path, "w", compression) as archive:
        for file in sorted(folder.rglob("*")):
            archive.write(file, file.relative_to(folder))
        for name in extra:
            archive.writestr(name, b"")
    return path


@pytest.fixture
def tiny_zip(tiny_bundle, tmp_path):
    return zipped(tiny_bundle, tmp_path / "tiny.zip")


def test_a_zip_opens_as_its_folder(tiny_bundle, tiny_zip):
    folder, archive = Bundle.open(tiny_bundle), Bundle.open(str(tiny_zip))
    assert archive.manifest == folder.manifest
    with archive.model("unet") as copy, folder.model("unet") as file:
        assert file == tiny_bundle / "unet.tflite"
        assert copy.read_bytes() == file.read_bytes()
    assert not copy.exists()
    assert archive.component("decoder").outputs[0].shape == (1, 16, 16, 3)
    goldens = load(archive.read(archive.manifest.goldens.file))
    for bundle in (folder, archive):
        tokens = bundle.tokenizer()(bundle.manifest.goldens.prompt)
        np.testing.assert_array_equal(tokens, goldens["tokens"])


def test_a_zip_may_hold_entries_for_its_folders(tiny_zip):
    with zipfile.ZipFile(tiny_zip) as archive:
        assert "tokenizer/" in archive.namelist()
    Bundle.open(tiny_zip)


def complaint(path):
    with pytest.raises(BundleError) as caught:
        Bundle.open(path)
    message = str(caught.value)
    assert "\n" not in message
    return message


def test_nothing_there(tmp_path):
    assert f"No bundle at {tmp_path / 'none'}" in complaint(tmp_path / "none")


def test_a_folder_that_is_none(tmp_path):
    assert "it has no manifest.json" in complaint(tmp_path)


def test_a_file_that_is_none(tmp_path):
    (tmp_path / "x.zip").write_bytes(b"GIF89a")
    assert "neither a folder nor a zip file" in complaint(tmp_path / "x.zip")


def test_a_zip_without_manifest(tmp_path):
    with zipfile.ZipFile(tmp_path / "x.zip", "w") as archive:
        archive.writestr("inner/manifest.json", "{}")
    assert "no manifest.json at its top" in complaint(tmp_path / "x.zip")


def test_a_zip_cut_short(tiny_zip):
    content = tiny_zip.read_bytes()
    tiny_zip.write_bytes(content[: len(content) // 2])
    assert complaint(tiny_zip) == f"{tiny_zip} is cut short or damaged: copy or export it again"


@pytest.mark.parametrize("content", [b"", b"PK", b"<html>404</html>"])
def test_a_file_that_is_called_a_bundle_and_lost_its_beginning(tmp_path, content):
    path = tmp_path / "x.tfsnap"
    path.write_bytes(content)
    assert complaint(path) == f"{path} is cut short or damaged: copy or export it again"


def test_a_zip_with_a_hole(tiny_zip):
    """As of a download that was resumed in the wrong place: the directory is at its end."""
    content = tiny_zip.read_bytes()
    tiny_zip.write_bytes(content[:1000] + content[len(content) // 2 :])
    message = complaint(tiny_zip)
    assert message.startswith(f"{tiny_zip} is cut short or damaged (")
    assert message.endswith("): copy or export it again")


def test_a_zip_with_a_damaged_checksum(tiny_zip):
    content = bytearray(tiny_zip.read_bytes())
    content[content.index(b'"format"') + 1] ^= 1
    tiny_zip.write_bytes(content)
    assert complaint(tiny_zip) == (
        f"{tiny_zip} is cut short or damaged (Bad CRC-32 for file 'manifest.json'): copy or export "
        "it again"
    )


def test_a_zip_with_a_damaged_member(tiny_bundle, tiny_zip):
    weights = (tiny_bundle / "text_encoder.tflite").read_bytes()
    content = bytearray(tiny_zip.read_bytes())
    content[content.index(weights) + 1000] ^= 1
    tiny_zip.write_bytes(content)
    assert "text_encoder.tflite" in complaint(tiny_zip)


@pytest.mark.parametrize(
    ("place", "value", "message"),
    [
        (6, 96, "(zip file version 9.6): copy or export it again"),
        (8, 0x20, "): copy or export it again"),
        (46, 0, "is cut short or damaged ("),
    ],
)
def test_a_zip_with_a_damaged_directory(tiny_zip, place, value, message):
    content = bytearray(tiny_zip.read_bytes())
    content[content.index(b"PK\x01\x02") + place] = value
    tiny_zip.write_bytes(content)
    assert message in complaint(tiny_zip)


def test_a_compressed_zip(tiny_bundle, tmp_path):
    path = zipped(tiny_bundle, tmp_path / "x.zip", compression=zipfile.ZIP_DEFLATED)
    assert "is compressed: zip the bundle with stored members (zip -0 -r)" in complaint(path)


def test_an_encrypted_zip(tiny_zip):
    content = bytearray(tiny_zip.read_bytes())
    content[content.rindex(b"PK\1\2") + 8] |= 1  # The flags in the central directory's last entry.
    tiny_zip.write_bytes(content)
    assert "is encrypted" in complaint(tiny_zip)


def test_a_zip_that_names_a_file_outside(tiny_bundle, tmp_path):
    path = zipped(tiny_bundle, tmp_path / "x.zip", extra=["../../outside.txt"])
    assert "'../../outside.txt' is no file name inside a bundle" in complaint(path)


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_a_zip_with_two_members_of_one_name(tiny_bundle, tmp_path):
    path = zipped(tiny_bundle, tmp_path / "x.zip", extra=["unet.tflite"])
    assert "two members of one name" in complaint(path)


def test_a_manifest_that_is_no_json(copied):
    (copied / "manifest.json").write_text("{")
    assert f"{copied / 'manifest.json'}: " in complaint(copied)


def test_a_manifest_that_is_no_text(copied):
    (copied / "manifest.json").write_bytes(b"\xff\xfe\x00")
    assert f"{copied / 'manifest.json'}: " in complaint(copied)


def test_a_manifest_that_is_nested_without_end(copied):
    (copied / "manifest.json").write_text("[" * 100_000 + "]" * 100_000)
    assert f"{copied / 'manifest.json'}: " in complaint(copied)


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("pad_token", 49408, "pad_token is 49408; it must be from 0 to 49407"),
        ("vocab_size", 0, "vocab_size is 0; it must be from 514 to 49408"),
    ],
)
def test_a_tokenizer_that_cannot_be(edit, field, value, message):
    def change(manifest):
        manifest["format_version"] = 3
        manifest["tokenizer"][field] = value

    bundle = Bundle.open(edit(change))
    with pytest.raises(BundleError, match=f"tokenizer: {message}: export the bundle again"):
        bundle.tokenizer()


def test_a_field_is_told_with_the_file_once(edit):
    folder = edit(lambda manifest: manifest["components"].update(unet=[]))
    assert complaint(folder).startswith(f"{folder}/manifest.json: components.unet is []; it must")
    folder = edit(lambda manifest: manifest.pop("components"))
    assert complaint(folder) == f"{folder}/manifest.json lacks 'components'"


def test_a_bundle_of_a_later_version(edit):
    folder = edit(lambda manifest: manifest.update(format_version=7))
    assert "format_version 7 and this tfsnap reads up to 3: upgrade tfsnap" in complaint(folder)


@pytest.mark.parametrize(
    ("file", "name"),
    [
        ("unet.tflite", "unet"),
        ("tokenizer/merges.txt.gz", "tokenizer"),
        ("goldens.safetensors", "goldens"),
    ],
)
def test_a_changed_file(copied, file, name):
    manifest = json.loads((copied / "manifest.json").read_text())
    expected = {**manifest, **manifest["components"]}[name]["sha256"]
    with (copied / file).open("ab") as opened:
        opened.write(b"\0")
    message = complaint(copied)
    assert message.startswith(f"{name} is damaged or was changed")
    assert f"manifest.json says {expected[:12]}..." in message


@pytest.mark.parametrize("file", ["decoder.tflite", "tokenizer/merges.txt.gz"])
def test_a_missing_file(copied, file):
    (copied / file).unlink()
    assert f"lacks {file} " in complaint(copied)


def test_a_missing_file_in_a_zip(copied, tmp_path):
    (copied / "unet.tflite").unlink()
    assert "lacks unet.tflite (unet)" in complaint(zipped(copied, tmp_path / "x.zip"))


def test_opening_leaves_nothing_behind(tiny_zip, tmp_path, monkeypatch):
    folder = tmp_path / "temporary"
    folder.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(folder))
    Bundle.open(tiny_zip).tokenizer()
    assert not list(folder.iterdir())
    shutil.rmtree(folder)


@pytest.mark.parametrize("how", ["replaced", "overwritten", "removed"])
def test_a_folder_that_is_changed_while_it_is_open(copied, how):
    """As by an export, under a program that loads one network at a time."""
    bundle = Bundle.open(copied)
    with bundle.model("decoder"):
        pass
    for file in ("unet.tflite", "tokenizer/merges.txt.gz"):
        path = copied / file
        if how == "replaced":
            shutil.copy(path, copied / "other")
            (copied / "other").replace(path)
        elif how == "overwritten":
            path.write_bytes(path.read_bytes()[::-1])
        else:
            path.unlink()
    message = r"cannot be read: \w.*: the bundle was changed since it was opened, open it again"
    with pytest.raises(BundleError, match=f"unet.tflite {message}"), bundle.model("unet"):
        pass
    with pytest.raises(BundleError, match=f"merges.txt.gz {message}"):
        bundle.tokenizer()
