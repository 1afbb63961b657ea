"""benchmarks/bundle_memory.py, of a small network."""

import subprocess
import sys

import pytest

from tests.tools.programs import ROOT


def measured(folder):
    command = [sys.executable, ROOT / "benchmarks/bundle_memory.py", "--layers=4"]
    return subprocess.run([*command, f"--folder={folder}"], capture_output=True, text=True)


def test_every_way_to_hold_a_network_is_measured(tmp_path):
    done = measured(tmp_path / "new")
    assert done.returncode == 0, done.stderr
    rows = [line for line in done.stdout.splitlines() if line.endswith(" s a run")]
    assert len(rows) == len(set(rows)) == 14


@pytest.mark.parametrize("name", ["thesis.txt", "manifest.json"])
def test_a_folder_with_something_else_is_not_emptied(tmp_path, name):
    (tmp_path / name).write_text("years")
    done = measured(tmp_path)
    assert done.returncode == 1
    assert done.stderr.endswith("holds other files, which would be lost: name a new one\n")
    assert (tmp_path / name).read_text() == "years"
