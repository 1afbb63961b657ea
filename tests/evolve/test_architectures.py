"""What the comparison of architectures takes of an earlier call: nothing of other flags."""

from tests.runtime.processes import run_code

# Calls as a user makes them, with networks of one weight, and nothing trained or scored.
CALLS = """
import json
import pathlib
import sys
from types import SimpleNamespace

import numpy as np
from absl import flags

import benchmarks.architectures as program
from tfsnap.config import UNetConfig

scored = []

def call(tool, *given):
    if tool == "tools/evaluate.py":
        told = dict(flag.removeprefix("--").split("=") for flag in given)
        scored.append(told)
        how = {"guidance": float(told["guidance"]), "steps": int(told["steps"])}
        row = {"split": told["split"], "count": int(told["count"]), **how, "clip_score": 0.5}
        pathlib.Path(told["json"]).write_text(json.dumps(row))

def told(*given, weight=1.0, groups=32, seed=0, extra=()):
    files = [f"--{name}=it" for name in ("teacher", "evolved", "narrow", "table")]
    flags.FLAGS.unparse_flags()
    for flag in ("config", "steps", "count", "guidance", "split", "sampling_steps"):
        flags.FLAGS[flag].unparse()
    flags.FLAGS(["it", f"--output={sys.argv[1]}", "--config=c", *files, *given])
    tensors = {"weight": np.full(7, weight, np.float32)}
    config = UNetConfig(groups=groups)
    arm = program.Arm("random", seed, config, tensors, program._STEPS.value)
    try:
        return program.run(arm, SimpleNamespace(about={}), list(extra))["clip_score"]
    except ValueError as error:
        return str(error).replace(sys.argv[1], "OUT")

program.call, program.is_finished = call, lambda workdir: False
"""


def test_what_is_there_is_taken_for_the_same_flags_only(tmp_path):
    code = (
        CALLS
        + """
found = {
    "first": told(),
    "again": told(),
    "another seed": told(seed=1),
    "count": told("--count=500", "--guidance=2"),
    "steps": told("--steps=9"),
    "flags": told(extra=["--config.latents=x"]),
    "weights": told(weight=2.0),
    "shape": told(groups=16),
    "last": told(),
    "scored": len(scored),
}
print(json.dumps(found))
"""
    )
    found = run_code(code, tmp_path)
    assert [found[name] for name in ("first", "again", "another seed", "last")] == [0.5] * 4
    assert found["scored"] == 2
    other = "OUT/random-0 is of other flags: "
    assert found["count"].startswith(
        "OUT/random-0/scores.json is of other flags: count was 144, is 500; guidance was 3.0, is 2."
    )
    assert found["steps"].startswith(other + "steps was 600, is 9. Use the same or")
    assert found["flags"].startswith(other + 'more was [], is ["--config.latents=x"]')
    for name in ("weights", "shape"):
        assert found[name].startswith("OUT/random-0/init.safetensors is not what these flags and")
