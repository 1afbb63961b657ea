#!/usr/bin/env python3
"""KerasCV's UNet of Stable Diffusion v1.5 as TFLite: the graph that `tf.lite` makes of it.

    benchmarks/keras_cv_unet.py --folder=/tmp/pictures

TensorFlow's own converter takes 366 s and 21.7 GB for this network in int8, and is killed for
float16 on a machine of 24 GB. So its graph goes through this project's exporter, which does what
the converter does: same operators, same int8 weights (`tests/export/test_against_stock.py`). What
it does beyond is left out: operators keep the converter's order. int8 fully-connected layers have
one scale and not one per channel; XNNPACK runs both with the same kernel. The weights are random.
"""

import os
import pathlib
import sys

# Programs are run from anywhere: the repository's root holds `tfsnap` where it is not installed.
sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))
os.environ["TF_USE_LEGACY_KERAS"] = "1"  # KerasCV is imported before tfsnap sets it.

import tensorflow as tf
from absl import flags
from keras_cv.src.models.stable_diffusion.diffusion_model import DiffusionModel

from tfsnap.export import converter
from tfsnap.export.graphs import Graph
from tfsnap.models.weightless import build_weightless
from tfsnap.weights.random_values import random_tensor
from tools.program import run_main

_FOLDER = flags.DEFINE_string("folder", None, "Where unet-keras_cv-*.tflite go.", required=True)
_PRECISIONS = flags.DEFINE_multi_enum("precision", ["fp16", "int8"], converter.PRECISIONS, "")
_INPUTS = {"latent": [1, 64, 64, 4], "time_features": [1, 320], "context": [1, 77, 768]}


def graph() -> Graph:
    """One evaluation, as `tfsnap.export.graphs.unet_graph` has ours."""
    model = build_weightless(lambda: DiffusionModel(512, 512, 77, None, False))
    values = {}
    for number, variable in enumerate(model.variables):
        kind = variable.name.split(":")[0].rpartition("/")[2]
        values[f"{number}.{kind}"] = random_tensor(number, tuple(variable.shape), kind)
        variable._handle_name = f"{number}/{kind}:0"  # Names of KerasCV's layers are not unique.

    def predict(
        latent: tf.Tensor, time_features: tf.Tensor, context: tf.Tensor
    ) -> dict[str, tf.Tensor]:
        return {"prediction": model([latent, time_features, context])}

    specs = {name: tf.TensorSpec(shape, name=name) for name, shape in _INPUTS.items()}
    return Graph("unet", tf.function(predict), specs, model.variables, values)


def main() -> None:
    converter.schedule = lambda graph: None
    for precision in _PRECISIONS.value:
        file = pathlib.Path(_FOLDER.value, f"unet-keras_cv-{precision}.tflite")
        converter.convert(graph(), precision).save(file)
        print(file)


if __name__ == "__main__":
    run_main(main)
