"""Arranged weights in files: the same tensors to the bit, and one file for each network."""

import os
import subprocess
import sys

import pytest

from tests.runtime.processes import ROOT, complaint, run, run_code
from tfsnap.runtime import RequestError, weight_files

TWICE = """
import json, pathlib, sys
import numpy as np
from tfsnap.runtime import TextToImage

folder = pathlib.Path(sys.argv[2])
def draw(**options):
    (result,) = TextToImage(sys.argv[1], **options).generate(["ab cd"], seed=1, steps=2)
    return result
plain = draw()
written = draw(weight_cache=folder)
sizes = {file.name: [file.stat().st_size, file.stat().st_mtime_ns] for file in folder.iterdir()}
mapped = draw(weight_cache=folder, low_memory=True)
same = all(
    np.array_equal(a, b) for other in (written, mapped) for a, b in zip(plain, other, strict=True)
)
kept = sizes == {
    file.name: [file.stat().st_size, file.stat().st_mtime_ns] for file in folder.iterdir()
}
print(json.dumps({"same": same, "kept": kept, "files": len(sizes)}))
"""

# What another process would find while the first arranges the weights.
WHILE_WRITING = """
import json, pathlib, sys
from tfsnap.runtime import TextToImage, weight_cache

folder = pathlib.Path(sys.argv[2])
seen, arrange = [], weight_cache._compile

def compile_and_look(*arguments):
    model = arrange(*arguments)
    seen.append(sorted(file.suffix for file in folder.iterdir() if file.is_file()))
    return model

weight_cache._compile = compile_and_look
TextToImage(sys.argv[1], weight_cache=folder)
print(json.dumps([seen, sorted(path.suffix for path in folder.iterdir())]))
"""


def test_the_second_load_maps_what_the_first_wrote(tiny_bundle, tmp_path):
    told = run_code(TWICE, tiny_bundle, tmp_path / "cache", interpreter="ai_edge_litert")
    assert told == {"same": True, "kept": True, "files": 3}


def test_a_file_is_there_when_it_is_complete(tiny_bundle, tmp_path):
    """Processes that start together would fail on what one of them has half written."""
    told = run_code(WHILE_WRITING, tiny_bundle, tmp_path / "cache", interpreter="ai_edge_litert")
    file = ".xnnpack"
    assert told == [[[], [file], [file] * 2], [file] * 3]


def test_a_folder_that_cannot_be_written(tiny_bundle, tmp_path):
    code = """
import sys, tempfile
def refuse(*args, **kwargs):
    raise PermissionError(13, "Permission denied")
from tfsnap.cli import main
tempfile.mkdtemp = refuse
sys.exit(main(sys.argv[1:]))
"""
    flags = [f"--bundle={tiny_bundle}", "--prompt=ab", f"--weight_cache={tmp_path / 'cache'}"]
    done = run(
        ["-c", code, "generate", *flags, f"--output={tmp_path / 'a.png'}"],
        interpreter="ai_edge_litert",
    )
    assert f"The weight cache {tmp_path / 'cache'} cannot be written: Permission" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_disk_that_is_nearly_full(tiny_bundle, tmp_path):
    """XNNPACK would end the process when it is."""
    code = """
import shutil, sys
shutil.disk_usage = lambda path: shutil._ntuple_diskusage(10**9, 10**9 - 10**6, 10**6)
from tfsnap.cli import main
sys.exit(main(sys.argv[1:]))
"""
    cache = tmp_path / "cache"
    flags = [f"--bundle={tiny_bundle}", "--prompt=ab", f"--weight_cache={cache}"]
    done = run(
        ["-c", code, "generate", *flags, f"--output={tmp_path / 'a.png'}"],
        interpreter="ai_edge_litert",
    )
    size = (tiny_bundle / "text_encoder.tflite").stat().st_size
    needed = -(-(2 * size + 2**24) // 10**6)
    assert complaint(done) == (
        f"tfsnap generate: The weight cache {cache} has 1 MB free and needs up to {needed}: "
        "make room, or name another folder"
    )
    assert not list(cache.iterdir())


# Breaks the middle of every file in the cache, which XNNPACK takes as it is.
DAMAGED = """
import json, pathlib, sys
import numpy as np
from tfsnap.runtime import TextToImage

folder = pathlib.Path(sys.argv[2])
def draw():
    return TextToImage(sys.argv[1], weight_cache=folder).generate(["ab cd"], seed=1, steps=2)
before = draw()
contents = {file.name: file.read_bytes() for file in folder.iterdir()}
for file in folder.iterdir():
    third = file.stat().st_size // 3
    with file.open("r+b") as opened:
        opened.seek(third)
        opened.write(bytes(third))
after = draw()
print(json.dumps({
    "same": np.array_equal(before[0].image, after[0].image),
    "whole": contents == {file.name: file.read_bytes() for file in folder.iterdir()},
}))
"""


def test_a_damaged_file_is_written_again(tiny_bundle, tmp_path):
    told = run_code(DAMAGED, tiny_bundle, tmp_path / "cache", interpreter="ai_edge_litert")
    assert told == {"same": True, "whole": True}


def write(cache, content, room=0):
    with weight_files.writing(cache, room=room) as partial:
        partial.write_bytes(content)


def test_what_dead_processes_left_is_removed_and_what_live_ones_write_is_not(tmp_path):
    cache = tmp_path / "net.xnnpack"
    code = """
import os, pathlib, sys
from tfsnap.runtime import weight_files
with weight_files.writing(pathlib.Path(sys.argv[1]), room=0) as partial:
    partial.write_bytes(b"half")
    print(flush=True)
    sys.stdin.readline()
    os._exit(134)
"""
    live = subprocess.Popen(
        [sys.executable, "-c", code, cache],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    live.stdout.readline()
    write(cache, b"whole")
    (folder,) = tmp_path.glob(".partial-*")
    assert [file.read_bytes() for file in folder.iterdir()] == [b"half"]
    live.communicate(b"\n")
    assert folder.exists()
    weight_files.find(cache).unlink()
    write(cache, b"whole")
    assert [path.name for path in tmp_path.iterdir()] == [weight_files.find(cache).name]


def test_a_file_that_is_not_what_was_written_is_not_found(tmp_path):
    cache = tmp_path / "net-2.3.0.xnnpack"
    assert weight_files.find(cache) is None
    write(cache, b"whole")
    found = weight_files.find(cache)
    assert found.read_bytes() == b"whole"
    for other in ("net", "net-2.3"):
        assert weight_files.find(tmp_path / f"{other}.xnnpack") is None
    found.write_bytes(b"torn")
    assert weight_files.find(cache) is None
    assert not found.exists()


def test_nothing_is_begun_without_room(tmp_path):
    with pytest.raises(RequestError, match="make room, or name another folder"):
        write(tmp_path / "net.xnnpack", b"whole", room=2**62)
    assert not list(tmp_path.iterdir())


def test_tflite_runtime_cannot(tiny_bundle, tmp_path):
    flags = [
        f"--bundle={tiny_bundle}",
        "--prompt=ab",
        f"--output={tmp_path / 'a.png'}",
        f"--weight_cache={tmp_path / 'cache'}",
    ]
    done = run([ROOT / "tools/generate.py", *flags], interpreter="tflite_runtime")
    assert "tflite_runtime cannot keep arranged weights in a file" in complaint(done)
