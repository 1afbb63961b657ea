"""Times one TFLite model on the GPU accelerator, in a process of its own.

`tfsnap.bench.gpu` starts this file as a script. It imports neither TensorFlow nor tfsnap: the GPU
accelerator shares no process with TensorFlow. Its log goes to stderr; the last line of stdout is a
JSON object with milliseconds, or with why there are none.
"""

import json
import sys
import time
from collections.abc import Callable, Mapping

import numpy as np
from ai_edge_litert.compiled_model import CompiledModel, HardwareAccelerator, Options


def main() -> None:
    """Measures the model that the command line names."""
    path, warmup, runs = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
    try:
        result = measure(path, warmup, runs)
    except RuntimeError as error:
        result = {"unusable": str(error).splitlines()[-1].strip("└ ")}
    print("\n" + json.dumps(result))


def measure(path: str, warmup: int, runs: int) -> dict[str, object]:
    """Returns milliseconds: load, the first run, and each of the measured ones."""
    start = time.perf_counter_ns()
    # Without the CPU as a second choice, a model that is not wholly delegated fails to compile.
    model = CompiledModel.from_file(
        path, options=Options(hardware_accelerators=HardwareAccelerator.GPU)
    )
    if not model.is_fully_accelerated():
        return {"unusable": "part of it would run on the CPU"}
    run = runner(model, random_inputs(model))
    load = since(start)
    first, *times = [timed(run) for _ in range(1 + warmup + runs)]
    return {"load": load, "first": first, "times": times[warmup:]}


def random_inputs(model: CompiledModel) -> dict[str, np.ndarray]:
    """Inputs of a model that takes floats."""
    (signature, *_) = model.get_signature_list()
    rng = np.random.default_rng(0)
    return {
        name: rng.standard_normal(details["shape"]).astype(details["dtype"])
        for name, details in model.get_input_tensor_details(signature).items()
    }


def runner(model: CompiledModel, inputs: Mapping[str, np.ndarray]) -> Callable[[], None]:
    """What runs the model on inputs and waits for its outputs, which an app needs too."""
    (signature, *_) = model.get_signature_list()
    sources = {name: model.create_input_buffer_by_name(signature, name) for name in inputs}
    for name, source in sources.items():
        source.write(inputs[name])
    outputs = model.get_output_tensor_details(signature)
    sinks = {name: model.create_output_buffer_by_name(signature, name) for name in outputs}

    def run() -> None:
        model.run_by_name(signature, sources, sinks)
        for name, details in outputs.items():
            sinks[name].read(int(np.prod(details["shape"])), np.dtype(details["dtype"]).type)

    return run


def timed(run: Callable[[], None]) -> float:
    """Milliseconds of a run."""
    start = time.perf_counter_ns()
    run()
    return since(start)


def since(start: int) -> float:
    """Milliseconds since a time in nanoseconds."""
    return (time.perf_counter_ns() - start) / 1e6


if __name__ == "__main__":
    main()
