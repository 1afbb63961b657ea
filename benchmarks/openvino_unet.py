"""PyTorch's UNet of Stable Diffusion v1.5, from diffusers, as a model of OpenVINO.

    benchmarks/openvino_unet.py --folder=/tmp/pictures

Needs openvino beside torch and diffusers. The weights are random.
"""

import pathlib

import openvino
import torch
from absl import app, flags
from diffusers import UNet2DConditionModel

_FOLDER = flags.DEFINE_string("folder", None, "Where openvino-unet.xml goes.", required=True)


def main(argv: list[str]) -> None:
    if len(argv) > 1:
        raise app.UsageError(f"unexpected argument {argv[1]!r}")
    unet = UNet2DConditionModel(sample_size=64, cross_attention_dim=768).eval()
    inputs = {
        "sample": torch.zeros(1, 4, 64, 64),
        "timestep": torch.tensor(1.0),
        "encoder_hidden_states": torch.zeros(1, 77, 768),
    }
    model = openvino.convert_model(unet, example_input=inputs)
    model.reshape({0: [1, 4, 64, 64], 1: [], 2: [1, 77, 768]})
    openvino.save_model(model, pathlib.Path(_FOLDER.value, "openvino-unet.xml"))


if __name__ == "__main__":
    app.run(main)
