"""When `make` installs, with a Python that only notes what it is told."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]

pytestmark = pytest.mark.skipif(not shutil.which("make"), reason="there is no make")


@pytest.fixture
def checkout(tmp_path):
    for name in ("Makefile", "setup.cfg", "constraints.txt"):
        shutil.copy(ROOT / name, tmp_path)
    for name in ("python", "ruff", "lint-imports"):
        program = tmp_path / ".venv/bin" / name
        program.parent.mkdir(parents=True, exist_ok=True)
        program.write_text('#!/bin/sh\necho "$@" >> said.txt\n')
        program.chmod(0o755)
    return tmp_path


def installed(checkout, target, *arguments):
    """The extras that a `make` installed."""
    said = checkout / "said.txt"
    said.unlink(missing_ok=True)
    given = {"MAKEFLAGS", "MAKELEVEL", "EXTRAS"}
    environment = {name: value for name, value in os.environ.items() if name not in given}
    command = ["make", target, "PYTHON=true", *arguments]
    subprocess.run(command, cwd=checkout, env=environment, check=True, capture_output=True)
    words = said.read_text().split() if said.exists() else []
    return [word[2:-1] for word in words if word.startswith(".[")]


def age(path, seconds):
    changed = path.stat().st_mtime + seconds
    os.utime(path, (changed, changed))


def test_extras_are_installed_once_and_others_when_they_are_named(checkout):
    assert installed(checkout, "test") == ["train,dev"]
    assert installed(checkout, "test") == installed(checkout, "venv") == []
    assert installed(checkout, "venv", "EXTRAS=gpu,dev") == ["gpu,dev"]
    assert installed(checkout, "venv", "EXTRAS=gpu,dev") == []
    assert installed(checkout, "demo") == installed(checkout, "test") == []
    age(checkout / "setup.cfg", seconds=60)
    assert installed(checkout, "demo") == ["gpu,dev"]  # CUDA's libraries go with TensorFlow.


def test_a_stamp_without_extras_is_of_those_by_default(checkout):
    (checkout / ".venv/.installed").touch()
    assert installed(checkout, "test") == []
    assert installed(checkout, "venv", "EXTRAS=gpu,dev") == ["gpu,dev"]


def test_an_environment_of_another_python_is_told(checkout):
    other = '#!/bin/sh\n[ "$1" = -c ] || exit 0\necho it is 3.12 >&2\nexit 1\n'
    (checkout / ".venv/bin/python").write_text(other)
    command = ["make", "venv", "PYTHON=true"]
    done = subprocess.run(command, cwd=checkout, capture_output=True, text=True)
    assert done.returncode == 2 and "it is 3.12" in done.stderr
    assert not (checkout / ".venv/.installed").exists()
