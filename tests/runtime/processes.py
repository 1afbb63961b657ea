"""Runs Python in processes of their own: an interpreter cannot share one with TensorFlow."""

import json
import os
import pathlib
import subprocess
import sys
import textwrap

ROOT = pathlib.Path(__file__).parents[2]
INTERPRETERS = ("ai_edge_litert", "tflite_runtime")

# A finder that comes first and refuses the training stack; not with an ImportError, which code that
# only tries an import would swallow.
NO_TRAINING_STACK = """
import sys

class Refuse:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in ("tensorflow", "tf_keras", "keras", "keras_cv", "absl"):
            raise SystemError(f"{name} was imported")

sys.meta_path.insert(0, Refuse())
"""


def run(command, *, interpreter=None, stdout=subprocess.PIPE, stderr=subprocess.PIPE):
    """Runs a program with this checkout on its path and returns the completed process."""
    variables = {**os.environ, "PYTHONPATH": str(ROOT)}
    variables.pop("TFSNAP_INTERPRETER", None)
    if interpreter is not None:
        variables["TFSNAP_INTERPRETER"] = interpreter
    return subprocess.run(
        [sys.executable, *map(str, command)],
        env=variables,
        stdout=stdout,
        stderr=stderr,
        text=True,
        check=False,
        timeout=120,
    )


def run_code(code, *arguments, interpreter=None):
    """Runs code that prints JSON as its last line and returns what it printed."""
    done = run(["-c", textwrap.dedent(code), *arguments], interpreter=interpreter)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


def notes(done):
    """The lines that a command said on stderr, its native libraries' left out."""
    return [line for line in done.stderr.splitlines() if not line.startswith("INFO: ")]


def complaint(done):
    """The one line that a failed command said."""
    assert done.returncode != 0
    assert "Traceback" not in done.stderr
    (line,) = notes(done)
    return line


def make_tiny_bundle(session_dir):
    """Writes the tiny bundle and its broken networks once; returns their folder."""
    root = session_dir / "tiny_bundle"
    if not root.is_dir():
        done = run([pathlib.Path(__file__).with_name("tiny_bundle.py"), root])
        assert done.returncode == 0, done.stderr
    return root
