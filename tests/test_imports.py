"""The house rules that a linter does not know: who may import whom, and what no file may do."""

import ast
import itertools
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]

# Every room of tfsnap and the rooms that it may import; configs and `errors` are open to all.
ALLOWED = {
    "config": ["files"],
    "base_config": [],
    "files": [],
    "errors": [],
    "tokenizer": [],
    "colours": [],
    "heap": [],
    "lock": [],
    "temporary": ["lock"],
    "checksum": [],
    "diffusion": [],
    "layers": [],
    "models": ["layers", "diffusion"],
    "weights": ["models", "diffusion", "temporary"],
    "data": ["tokenizer", "colours", "checksum", "lock"],
    "objectives": ["diffusion"],
    "training": [
        "objectives",
        "data",
        "models",
        "weights",
        "diffusion",
        "tokenizer",
        "checksum",
        "lock",
    ],
    "metrics": ["models", "lock"],
    "runtime": ["diffusion", "tokenizer", "colours", "files", "temporary", "checksum"],
    "bench": ["runtime"],
    "export": [
        "models",
        "weights",
        "diffusion",
        "tokenizer",
        "runtime",
        "heap",
        "temporary",
        "checksum",
    ],
    "evolve": [
        "training",
        "metrics",
        "models",
        "weights",
        "bench",
        "data",
        "diffusion",
        "runtime",
        "checksum",
    ],
    "pretrained": [
        "training",
        "export",
        "models",
        "weights",
        "data",
        "diffusion",
        "tokenizer",
        "runtime",
    ],
    "cli": ["runtime", "bench", "pretrained"],
}
MAX_LINES = 500


def python_files(*folders):
    files = itertools.chain.from_iterable((ROOT / folder).rglob("*.py") for folder in folders)
    return sorted(files)


def imports(path):
    """Yields (line, dotted name) of everything that a file imports, inside functions too."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}:{node.lineno}: relative import"
            yield from ((node.lineno, f"{node.module}.{alias.name}") for alias in node.names)


def located(path, line):
    return f"{path.relative_to(ROOT)}:{line}"


def room_of(path):
    return path.relative_to(ROOT / "tfsnap").parts[0].removesuffix(".py")


def test_every_room_is_in_the_table():
    rooms = {room_of(path) for path in python_files("tfsnap")} - {"__init__"}
    assert rooms <= set(ALLOWED), "add the new room, and what it may import, to ALLOWED"


def test_rooms_import_only_what_they_may():
    wrong = []
    for path in python_files("tfsnap"):
        room = room_of(path)
        allowed = {room, "config", "base_config", "errors", "__version__", *ALLOWED.get(room, [])}
        for line, name in imports(path):
            package, _, rest = name.partition(".")
            if package == "tfsnap" and rest.split(".")[0] not in allowed:
                wrong.append(f"{located(path, line)} imports {name}")
    assert not wrong, "\n".join(wrong)


def test_flags_and_config_dicts_stay_in_tools_and_configs():
    wrong = [
        f"{located(path, line)} imports {name}"
        for path in python_files("tfsnap")
        for line, name in imports(path)
        if name.split(".")[0] in {"absl", "ml_collections"}
    ]
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize("folder", ["tfsnap", "tools", "configs", "tests"])
def test_files_stay_short(folder):
    lengths = {
        str(path.relative_to(ROOT)): len(path.read_text(encoding="utf-8").splitlines())
        for path in python_files(folder)
    }
    assert not {name: length for name, length in lengths.items() if length > MAX_LINES}


def test_numpy_never_unpickles():
    """`pickle` itself is banned by the linter; numpy's loader can still be asked for it."""
    wrong = [
        located(path, node.lineno)
        for path in python_files("tfsnap", "tools", "configs", "tests")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.keyword) and node.arg == "allow_pickle"
        if not (isinstance(node.value, ast.Constant) and node.value.value is False)
    ]
    assert not wrong, "\n".join(wrong)


def test_importing_tfsnap_chooses_keras_2_and_loads_nothing_heavy():
    code = (
        "import os, sys, tfsnap; "
        "assert os.environ['TF_USE_LEGACY_KERAS'] == '1'; "
        "heavy = {'numpy', 'PIL', 'tensorflow', 'tf_keras'} & set(sys.modules); "
        "assert not heavy, heavy"
    )
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True)
