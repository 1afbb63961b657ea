"""Networks of Stable Diffusion's size, random weights: memory, file, and what Keras computes.

    python -m pytest tests/export/test_large.py --large -s

Needs 8 GB of memory and 12 GB of disk. What it prints is the table of docs/export.md.
"""

import pathlib
import subprocess
import sys

import pytest

pytestmark = pytest.mark.large

ROOT = pathlib.Path(__file__).parents[2]
NETWORKS = [
    "unet:sd15",
    "unet:snapfusion",
    "unet:snapfusion_848m",
    "text_encoder",
    "encoder:sd15",
    "decoder:sd15",
    "decoder:snapfusion",
]
PSNR_DB = {"fp16": 50.0, "int8": 25.0}
PEAK_GB = 6.0


@pytest.mark.parametrize("name", NETWORKS)
def test_it_converts_in_little_memory_to_what_keras_computes(name, tmp_path):
    program = ROOT / "benchmarks/converting.py"
    command = [sys.executable, program, f"--folder={tmp_path}", f"--network={name}"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    print(done.stdout)
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in done.stdout.splitlines()]
    found = {row[1]: row for row in rows if row and row[0] == f"`{name}`"}
    assert found.keys() == PSNR_DB.keys()
    for precision, (*_, peak, psnr, _) in found.items():
        assert float(peak) < PEAK_GB
        assert float(psnr) > PSNR_DB[precision]
