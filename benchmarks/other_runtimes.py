#!/usr/bin/env python3
"""The UNet of Stable Diffusion v1.5 in other runtimes: PyTorch, ONNX Runtime, OpenVINO.

    pip install onnx onnxscript onnxruntime openvino nncf  # Beside torch and diffusers.
    benchmarks/other_runtimes.py --folder=/tmp/pictures
    benchmarks/pictures.py --folder=/tmp/pictures --network=openvino-int8

writes diffusers' network with random weights to the folder, in the form of each runtime; PyTorch
needs no file. `onnxruntime-int8` is ONNX Runtime's dynamic quantisation, int8 weights per channel
and activations at run time; `openvino-int8` is NNCF's compression of weights to int8 per channel.
OpenVINO computes both in bfloat16 or float32, as the name says or, for int8, as it chooses itself.
"""

import pathlib
import sys
from collections.abc import Callable

import numpy as np
from absl import flags

# Programs are run from anywhere: the repository's root holds `tools`.
sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))

from tools.program import run_main

Run = Callable[[], object]

_LATENT = (1, 4, 64, 64)
_CONTEXT = (1, 77, 768)
_INPUTS = ("sample", "timestep", "encoder_hidden_states")


def diffusers_unet(dtype: str) -> tuple[object, tuple[object, ...]]:
    """The network with random weights, and its inputs."""
    import torch
    from diffusers import UNet2DConditionModel

    torch.manual_seed(0)
    torch.set_grad_enabled(False)
    kind = getattr(torch, dtype)
    unet = UNet2DConditionModel(sample_size=_LATENT[-1], cross_attention_dim=_CONTEXT[-1])
    inputs = torch.randn(_LATENT, dtype=kind), torch.tensor(1.0), torch.randn(_CONTEXT, dtype=kind)
    return unet.eval().to(kind), inputs


def torch_run(folder: pathlib.Path, precision: str, threads: int) -> Run:
    """An evaluation in PyTorch."""
    import torch

    del folder
    torch.set_num_threads(threads)
    unet, inputs = diffusers_unet(precision)
    return lambda: unet(*inputs)


def random_inputs() -> dict[str, np.ndarray]:
    """What the exported network takes."""
    rng = np.random.default_rng(0)
    latent, context = (rng.standard_normal(s, dtype=np.float32) for s in (_LATENT, _CONTEXT))
    return dict(zip(_INPUTS, (latent, np.array(1.0, np.float32), context), strict=True))


def onnxruntime_run(folder: pathlib.Path, precision: str, threads: int) -> Run:
    """An evaluation in ONNX Runtime."""
    import onnxruntime

    del precision  # The file has it.
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    session = onnxruntime.InferenceSession(
        folder / "unet.onnx", options, providers=["CPUExecutionProvider"]
    )
    inputs = random_inputs()
    return lambda: session.run(None, inputs)


def openvino_run(folder: pathlib.Path, precision: str, threads: int) -> Run:
    """An evaluation in OpenVINO."""
    import openvino

    options = {"INFERENCE_NUM_THREADS": threads, "PERFORMANCE_HINT": "LATENCY"}
    if precision != "int8":
        options["INFERENCE_PRECISION_HINT"] = {"float32": "f32", "bfloat16": "bf16"}[precision]
    network = openvino.Core().compile_model(folder / "unet.xml", "CPU", options)
    inputs = random_inputs()
    return lambda: network(inputs)


RUNTIMES = {"torch": torch_run, "onnxruntime": onnxruntime_run, "openvino": openvino_run}
NAMES = [
    "torch-float32",
    "torch-bfloat16",
    "onnxruntime-float32",
    "onnxruntime-int8",
    "openvino-float32",
    "openvino-bfloat16",
    "openvino-int8",
]


def place(folder: pathlib.Path, name: str) -> pathlib.Path:
    """The folder of a network; in bfloat16 one computes with what is stored in float32."""
    return folder / name.replace("bfloat16", "float32")


def is_there(folder: pathlib.Path, name: str) -> bool:
    """Whether a network can be measured."""
    return name.startswith("torch") or place(folder, name).is_dir()


def prepare(name: str, threads: int, folder: pathlib.Path) -> Run:
    """Loads a network of `NAMES`; what it returns evaluates it."""
    runtime, _, precision = name.partition("-")
    return RUNTIMES[runtime](place(folder, name), precision, threads)


def write_onnx(folder: pathlib.Path) -> None:
    """The network for ONNX Runtime, and the same quantised."""
    import torch
    from onnxruntime.quantization import QuantType, quantize_dynamic

    plain, small = (place(folder, f"onnxruntime-{p}") / "unet.onnx" for p in ("float32", "int8"))
    for file in (plain, small):
        file.parent.mkdir(parents=True, exist_ok=True)
    unet, inputs = diffusers_unet("float32")
    program = torch.onnx.export(unet, inputs, input_names=_INPUTS, dynamo=True)
    program.save(plain, external_data=True)
    quantize_dynamic(
        plain, small, per_channel=True, weight_type=QuantType.QInt8, use_external_data_format=True
    )


def write_openvino(folder: pathlib.Path) -> None:
    """The network for OpenVINO, and the same with int8 weights."""
    import nncf
    import openvino

    network = openvino.convert_model(place(folder, "onnxruntime-float32") / "unet.onnx")
    plain, small = (place(folder, f"openvino-{p}") / "unet.xml" for p in ("float32", "int8"))
    openvino.save_model(network, plain, compress_to_fp16=False)
    compressed = nncf.compress_weights(network, mode=nncf.CompressWeightsMode.INT8_SYM)
    openvino.save_model(compressed, small)


def main() -> None:
    folder = pathlib.Path(_FOLDER.value)
    write_onnx(folder)
    write_openvino(folder)


if __name__ == "__main__":
    _FOLDER = flags.DEFINE_string("folder", None, "Where the networks go.", required=True)
    run_main(main)
