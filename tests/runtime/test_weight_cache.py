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


def test_the_second_load_maps_what_the_first_wrote(tiny_bundle, tmp_path):
    told = run_code(TWICE, tiny_bundle, tmp_path / "cache", interpreter="ai_edge_litert")
    assert told == {"same": True, "kept": True, "files": 3}


def test_tflite_runtime_cannot(tiny_bundle, tmp_path):
    flags = [
        f"--bundle={tiny_bundle}",
        "--prompt=ab",
        f"--output={tmp_path / 'a.png'}",
        f"--weight_cache={tmp_path / 'cache'}",
    ]
    done = run([ROOT / "tools/generate.py", *flags], interpreter="tflite_runtime")
    assert "tflite_runtime cannot keep arranged weights in a file" in complaint(done)
