"""The runtime needs no training stack: it works where importing one is an error."""

import pytest
from PIL import Image

from tests.runtime.processes import NO_TRAINING_STACK, ROOT, run, run_code


def test_the_guard_works():
    done = run(["-c", NO_TRAINING_STACK + "import tensorflow"])
    assert "SystemError: tensorflow was imported" in done.stderr


def test_importing_loads_neither_tensorflow_nor_an_interpreter():
    code = NO_TRAINING_STACK + (
        "import tfsnap.runtime, tfsnap.bench.timing, tfsnap.cli, json\n"
        "print(json.dumps(sorted({name.split('.')[0] for name in sys.modules})))"
    )
    loaded = run_code(code)
    assert {"numpy", "PIL"} <= set(loaded)
    assert not {"tensorflow", "keras", "ai_edge_litert", "tflite_runtime"} & set(loaded)


@pytest.mark.parametrize("tool", ["generate", "benchmark"])
def test_tools_run_to_the_end(tiny_bundle, tmp_path, interpreter, tool):
    output = tmp_path / ("x.png" if tool == "generate" else "r.json")
    flags = {
        "generate": ["--prompt=a", f"--output={output}"],
        "benchmark": ["--runs=1", "--pictures=1", f"--json={output}"],
    }[tool]
    program = ROOT / "tools" / f"{tool}.py"
    code = NO_TRAINING_STACK + (
        "import runpy\nsys.argv = sys.argv[1:]\nrunpy.run_path(sys.argv[0], run_name='__main__')"
    )
    done = run(
        ["-c", code, program, f"--bundle={tiny_bundle}", "--steps=2", *flags],
        interpreter=interpreter,
    )
    assert done.returncode == 0, done.stderr
    assert output.stat().st_size > 0
    if tool == "generate":
        assert Image.open(output).size == (16, 16)
