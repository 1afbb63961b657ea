"""Runs one TFLite model on the CPU and on the GPU accelerator, in a process of its own.

`tfsnap.export.delegate` starts this file as a script. It imports neither TensorFlow nor tfsnap: the
GPU accelerator shares no process with TensorFlow, and a model that crashes it takes only this
process along. The accelerator's log goes to stderr; the verdict is the last line of stdout.
"""

import json
import sys

import numpy as np
from ai_edge_litert.compiled_model import (
    CompiledModel,
    CpuOptions,
    GpuOptions,
    HardwareAccelerator,
    Options,
)

CPU = Options(hardware_accelerators=HardwareAccelerator.CPU, cpu_options=CpuOptions(num_threads=1))


def main() -> None:
    """Reads what the command line names and prints the verdict as JSON.

    The arguments are the model, the inputs and the precision of the GPU: float32 or float16.
    """
    model_path, inputs_path, precision = sys.argv[1:]
    with np.load(inputs_path) as archive:
        inputs = dict(archive)
    try:
        expected = evaluate(CompiledModel.from_file(model_path, options=CPU), inputs)
        check_outputs(expected)
    except (RuntimeError, ValueError) as error:
        verdict = {"unusable": str(error).splitlines()[-1].strip("└ ")}
    else:
        verdict = compare(model_path, inputs, expected, options=gpu_options(precision))
    print("\n" + json.dumps(verdict))


def gpu_options(precision: str) -> Options:
    """Returns options without the CPU: a model that is not wholly delegated fails to compile."""
    precise = GpuOptions(enforce_f32=precision == "float32")
    return Options(hardware_accelerators=HardwareAccelerator.GPU, gpu_options=precise)


def compare(
    model_path: str,
    inputs: dict[str, np.ndarray],
    expected: dict[str, np.ndarray],
    *,
    options: Options,
) -> dict[str, object]:
    """Runs the model on the GPU and measures its distance from the CPU's outputs."""
    try:
        model = CompiledModel.from_file(model_path, options=options)
        outputs = evaluate(model, inputs)
    except RuntimeError as error:
        return {"whole": False, "reason": str(error).splitlines()[-1].strip("└ ")}
    errors = {name: relative_error(outputs[name], expected[name]) for name in expected}
    return {"whole": bool(model.is_fully_accelerated()), "errors": errors}


def evaluate(model: CompiledModel, inputs: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Returns the model's outputs by name.

    Raises:
      ValueError: the inputs' names, shapes or types are not the model's.
    """
    (signature, *_) = model.get_signature_list()
    wanted = model.get_input_tensor_details(signature)
    check_inputs({name: (d["dtype"], tuple(d["shape"])) for name, d in wanted.items()}, inputs)
    sources = {name: model.create_input_buffer_by_name(signature, name) for name in wanted}
    for name, source in sources.items():
        source.write(np.ascontiguousarray(inputs[name]))
    details = model.get_output_tensor_details(signature)
    sinks = {name: model.create_output_buffer_by_name(signature, name) for name in details}
    model.run_by_name(signature, sources, sinks)
    return {
        name: np.array(sinks[name].read(int(np.prod(d["shape"])), np.dtype(d["dtype"]).type))
        for name, d in details.items()
    }


def check_inputs(
    wanted: dict[str, tuple[str, tuple[int, ...]]], inputs: dict[str, np.ndarray]
) -> None:
    """Raises `ValueError` unless the inputs are what the model wants."""
    seen = {name: (str(value.dtype), value.shape) for name, value in inputs.items()}
    if seen != wanted:
        raise ValueError(f"the model takes {wanted}, and the inputs given are {seen}")


def check_outputs(expected: dict[str, np.ndarray]) -> None:
    """Raises `ValueError` for zeros, as from a network whose last layer is not yet trained."""
    for name, value in expected.items():
        if not value.any():
            raise ValueError(f"output {name!r} is 0 everywhere on the CPU: nothing to compare with")


def relative_error(actual: np.ndarray, expected: np.ndarray) -> float:
    """Largest absolute difference over the range of the expected values; NaN counts as infinite."""
    expected = expected.astype(np.float64)
    largest = np.abs(actual.astype(np.float64) - expected).max()
    error = largest / (np.ptp(expected) or np.abs(expected).max())
    return float(error) if np.isfinite(error) else float("inf")


if __name__ == "__main__":
    main()
