"""Both interpreters, each in a process of its own, give TensorFlow's pictures."""

import zipfile

import numpy as np
import pytest
from safetensors.numpy import load_file

from tests.runtime.processes import run_code

COMPARE = """
import json, sys
from safetensors.numpy import load_file
import numpy as np
from tfsnap.runtime import TextToImage

model = TextToImage(sys.argv[1])
about = model.bundle.manifest.goldens
(result,) = model.generate(
    [about.prompt], seed=about.seed, steps=about.steps, guidance=about.guidance
)
goldens = load_file(sys.argv[2])
errors = {name: float(abs(getattr(result, name) - goldens[name]).max()) for name in goldens}
print(json.dumps(errors))
"""


@pytest.mark.parametrize("packed", [False, True])
def test_goldens(tiny_bundle, tmp_path, interpreter, packed):
    bundle = tiny_bundle
    if packed:
        bundle = tmp_path / "tiny.zip"
        with zipfile.ZipFile(bundle, "w") as archive:
            for file in filter(lambda path: path.is_file(), tiny_bundle.rglob("*")):
                archive.write(file, file.relative_to(tiny_bundle))
    goldens = tiny_bundle / "goldens.safetensors"
    errors = run_code(COMPARE, bundle, goldens, interpreter=interpreter)
    scale = {name: np.abs(array).max() for name, array in load_file(goldens).items()}
    assert errors["tokens"] == 0
    assert all(errors[name] < 1e-4 * max(1.0, scale[name]) for name in scale), errors


def test_a_seed_gives_one_picture_on_every_run_and_number_of_threads(tiny_bundle, interpreter):
    code = """
    import json, sys
    import numpy as np
    from tfsnap.runtime import TextToImage

    runs = []
    for threads in (1, 2, 4):
        model = TextToImage(sys.argv[1], threads=threads)
        runs += [model.generate(["ab"], seed=5)[0].image for _ in range(2)]
    other = model.generate(["ab"], seed=6)[0].image
    differences = [float(abs(run - runs[0]).max()) for run in runs]
    print(json.dumps([differences, float(abs(other - runs[0]).max())]))
    """
    differences, other = run_code(code, tiny_bundle, interpreter=interpreter)
    assert differences[1] == 0.0
    assert max(differences) < 1e-4
    assert other > 0.1


def test_calls_tell_apart_inputs_of_one_shape(tiny_bundle, interpreter):
    """The networks' named tensors are found by name: permuted arguments change nothing."""
    code = """
    import json, sys
    import numpy as np
    from tfsnap.runtime.bundle import Bundle
    from tfsnap.runtime.components import load_component

    network = load_component(Bundle.open(sys.argv[1]), "unet", threads=1)
    random = np.random.default_rng(0)
    arrays = {t.name: random.normal(size=t.shape).astype(t.dtype) for t in network.inputs}
    first = network(**arrays)["prediction"]
    kept = first.copy()
    second = network(**dict(reversed(arrays.items())))["prediction"]
    network(**{name: -array for name, array in arrays.items()})
    print(json.dumps([bool((first == second).all()), bool((first == kept).all()),
                      network.delegate(), network.backend.name, network.backend.version]))
    """
    same, untouched, delegate, name, version = run_code(code, tiny_bundle, interpreter=interpreter)
    assert same
    assert untouched, "an output must not be a view of memory that the next run overwrites"
    assert (delegate, name) == ("XNNPACK", interpreter)
    assert version[0].isdigit()


FAILS = """
import json, sys
sys.path.insert(0, sys.argv[1])
from tfsnap.runtime import TfsnapError
from tfsnap.runtime.interpreter import find_backend, load
try:
    {statement}
except TfsnapError as error:
    print(json.dumps([type(error).__name__, str(error)]))
"""


def failure(statement, folder="", **options):
    return run_code(FAILS.format(statement=statement), folder, **options)


def test_without_interpreter_the_packages_are_named():
    hidden = "sys.modules.update(dict.fromkeys(['ai_edge_litert', 'tflite_runtime'])); "
    kind, message = failure(hidden + "find_backend()")
    assert kind == "InterpreterError"
    assert "pip install tflite-runtime (Linux" in message
    assert "pip install ai-edge-litert" in message


def test_the_interpreter_asked_for_is_missing(interpreter):
    hidden = f"sys.modules[{interpreter!r}] = None; "
    package = interpreter.replace("_", "-")
    kind, message = failure(hidden + "find_backend()", interpreter=interpreter)
    assert (kind, message) == (
        "InterpreterError",
        f"{interpreter} is not installed: pip install {package}",
    )


def test_an_unknown_interpreter():
    message = failure("find_backend('onnx')")[1]
    assert message == "The interpreter is 'onnx'; it must be ai_edge_litert or tflite_runtime"


def test_tflite_runtime_needs_numpy_1():
    later = "import numpy; numpy.__version__ = '2.4.6'; "
    kind, message = failure(later + "find_backend('tflite_runtime')")
    assert kind == "InterpreterError"
    assert "needs numpy<2 and this is numpy 2.4.6: pip install 'numpy<2'" in message


def test_an_interpreter_that_is_broken(tmp_path):
    package = tmp_path / "tflite_runtime"
    package.mkdir()
    (package / "__init__.py").touch()
    (package / "interpreter.py").write_text("raise ImportError('libusb:\\nno such file')")
    message = failure("find_backend()", tmp_path, interpreter="tflite_runtime")[1]
    assert "cannot be imported (libusb: no such file): install it again" in message


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("ai_edge_litert", "tflite_runtime"),
        ("tflite_runtime", "ai_edge_litert"),
        ("tensorflow", "tflite_runtime"),
    ],
)
def test_a_process_keeps_to_one_library(first, second):
    loaded = f"sys.modules[{first!r}] = sys; "
    message = failure(loaded + f"find_backend({second!r})")[1]
    assert message == (
        f"{second} cannot be used in a process that has loaded {first}: start a new process"
    )


@pytest.mark.parametrize(
    ("loaded", "chosen"),
    [
        ("json", "ai_edge_litert"),
        ("tflite_runtime.interpreter", "tflite_runtime"),
        ("ai_edge_litert.interpreter", "ai_edge_litert"),
    ],
)
def test_what_is_loaded_is_chosen(loaded, chosen):
    code = f"""
    import {loaded}, json
    from tfsnap.runtime.interpreter import find_backend
    print(json.dumps(find_backend().name))
    """
    assert run_code(code) == chosen


def test_a_file_that_is_no_network(interpreter):
    statement = "load(b'GIF89a' * 100, name='unet (u.tflite)')"
    kind, message = failure(statement, interpreter=interpreter)
    assert kind == "BundleError"
    assert message.startswith(f"unet (u.tflite): {interpreter} ")
    assert " refuses it: " in message
    assert "\n" not in message


@pytest.mark.parametrize("threads", [0, -1, 1.5])
def test_threads_out_of_range(threads):
    kind, message = failure(f"load(b'', name='unet', threads={threads})")
    assert (kind, message) == (
        "RequestError",
        f"threads is {threads}; it must be an integer of at least 1",
    )
