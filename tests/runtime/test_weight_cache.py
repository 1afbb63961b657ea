"""Arranged weights in files: the same tensors to the bit, and one file for each network."""

from tests.runtime.processes import ROOT, complaint, run, run_code

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
from tfsnap.runtime import weight_cache
weight_cache.tempfile.TemporaryDirectory = refuse
sys.exit(main(sys.argv[1:]))
"""
    flags = [f"--bundle={tiny_bundle}", "--prompt=ab", f"--weight_cache={tmp_path / 'cache'}"]
    done = run(
        ["-c", code, "generate", *flags, f"--output={tmp_path / 'a.png'}"],
        interpreter="ai_edge_litert",
    )
    assert f"The weight cache {tmp_path / 'cache'} cannot be written: Permission" in done.stderr
    assert "Traceback" not in done.stderr


def test_tflite_runtime_cannot(tiny_bundle, tmp_path):
    flags = [
        f"--bundle={tiny_bundle}",
        "--prompt=ab",
        f"--output={tmp_path / 'a.png'}",
        f"--weight_cache={tmp_path / 'cache'}",
    ]
    done = run([ROOT / "tools/generate.py", *flags], interpreter="tflite_runtime")
    assert "tflite_runtime cannot keep arranged weights in a file" in complaint(done)
