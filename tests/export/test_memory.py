import json
import subprocess
import sys

import pytest

from tests.tools.programs import ROOT

# A network of 340 MB is loaded and forgotten, as an export does with each that it compares.
SCRIPT = """
import json, pathlib
import tools.export
import numpy as np
from tfsnap.config import ClipTextConfig
from tfsnap.export.graphs import text_graph
from tfsnap.heap import return_freed_memory
from tfsnap.export.skeleton import skeleton_of
from tfsnap.models.clip import build_text_encoder
from tfsnap.models.weightless import build_weightless
from tfsnap.weights.random_values import random_values

def megabytes(what):
    lines = pathlib.Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) / 1000 for line in lines if line.startswith(what))

config = ClipTextConfig(vocab_size=1000, context_length=8)
model = build_weightless(lambda: build_text_encoder(config))
skeleton = skeleton_of(text_graph(model, values=random_values(model.variables)))
before = megabytes("VmRSS")
network = skeleton.loaded()
loaded = megabytes("VmHWM")
network(tokens=np.zeros([1, 8], np.int32))
del network
return_freed_memory()
weights = sum(value.bytes for value in skeleton.weights.values()) / 1e6
print(json.dumps([weights, loaded - before, megabytes("VmRSS") - before]))
"""


@pytest.mark.skipif(sys.platform != "linux", reason="/proc and glibc's malloc are Linux's")
def test_a_network_is_in_memory_once_and_then_no_longer():
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT], capture_output=True, check=True, cwd=ROOT, text=True
    )
    weights, loaded, left = json.loads(done.stdout)
    assert weights > 300
    assert loaded < 1.4 * weights
    assert left < 0.4 * weights
