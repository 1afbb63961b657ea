"""Networks of Stable Diffusion's size, random weights: memory, file, and what Keras computes.

    python -m pytest tests/export/test_large.py --large -s

Needs 8 GB of memory and 12 GB of disk. What it prints is the table of docs/export.md.
"""

import json
import os
import pathlib
import subprocess
import sys

import pytest

from tfsnap.export.full_size import NETWORKS

pytestmark = pytest.mark.large

ROOT = pathlib.Path(__file__).parents[2]
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


STOCK = """
import json, pathlib, sys, time
from tfsnap.export.graphs import text_graph
from tfsnap.weights.archive import load_trained
from stock import stock_convert

wall, cpu = time.perf_counter(), time.process_time()
graph = text_graph(load_trained(sys.argv[1], "text_encoder").model)
pathlib.Path(sys.argv[2]).write_bytes(stock_convert(graph, sys.argv[3]))
peak = pathlib.Path("/proc/self/status").read_text().partition("VmHWM:")[2].split()[0]
print(json.dumps([time.perf_counter() - wall, time.process_time() - cpu, int(peak) * 1024 / 1e9]))
"""


@pytest.mark.parametrize("precision", PSNR_DB)
def test_the_stock_path_needs_more_memory(tmp_path, precision):
    """Of the text encoder, the largest network that the stock path converts in a few GB."""
    name = "text_encoder"
    program = ROOT / "benchmarks/converting.py"
    command = [sys.executable, program, f"--folder={tmp_path}", f"--network={name}"]
    done = subprocess.run([*command, f"--precision={precision}"], capture_output=True, text=True)
    ours = float(done.stdout.splitlines()[-1].split("|")[6])
    arguments = [tmp_path / f"{name}-sd15.safetensors", tmp_path / "stock.tflite", precision]
    folders = f"{ROOT}{os.pathsep}{ROOT}/tests/export"
    stock = subprocess.run(
        [sys.executable, "-c", STOCK, *arguments],
        env={**os.environ, "PYTHONPATH": folders},
        capture_output=True,
        text=True,
    )
    seconds, cpu_seconds, peak = json.loads(stock.stdout.splitlines()[-1])
    print(f"stock, {precision}: {seconds:.0f} s, {cpu_seconds:.0f} s of CPU, {peak:.1f} GB")
    assert peak > ours
