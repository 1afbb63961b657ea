"""A tiny bundle, and ways to break a copy of it."""

import hashlib
import json
import shutil

import pytest

from tests.runtime.processes import INTERPRETERS, make_tiny_bundle


@pytest.fixture(scope="session")
def tiny_bundle(session_dir):
    """Folder of an intact bundle; read only."""
    return make_tiny_bundle(session_dir) / "tiny"


@pytest.fixture(params=INTERPRETERS)
def interpreter(request):
    return request.param


@pytest.fixture
def copied(tiny_bundle, tmp_path):
    """Folder of a copy that a test may break."""
    return shutil.copytree(tiny_bundle, tmp_path / "copy")


@pytest.fixture
def edit(copied):
    """Changes the copy's manifest with a function of its JSON and returns the folder."""

    def apply(change):
        path = copied / "manifest.json"
        manifest = json.loads(path.read_text())
        change(manifest)
        path.write_text(json.dumps(manifest))
        return copied

    return apply


@pytest.fixture
def with_unet(tiny_bundle, copied, edit):
    """Puts another network, by its file's name, into the copy and returns the folder."""

    def apply(file):
        content = (tiny_bundle.parent / file).read_bytes()
        (copied / "unet.tflite").write_bytes(content)
        sha256 = hashlib.sha256(content).hexdigest()
        return edit(lambda manifest: manifest["components"]["unet"].update(sha256=sha256))

    return apply
