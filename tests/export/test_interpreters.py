"""What is exported runs in both interpreters, each in a process of its own."""

import numpy as np
import pytest

from tests.export.models import example_inputs
from tests.runtime.processes import INTERPRETERS, run_code
from tfsnap.export.converter import PRECISIONS, convert, folded
from tfsnap.export.graphs import component_graphs
from tfsnap.export.parity import psnr_db
from tfsnap.export.quantisation.formats import FORMATS
from tfsnap.export.quantisation.observer import observe
from tfsnap.export.quantisation.ranges import ranges_of
from tfsnap.export.quantisation.trials import QuantisedNetwork

RUN = """
import json, pathlib, sys
import numpy as np
from tfsnap.runtime.interpreter import load

for path in sorted(pathlib.Path(sys.argv[1]).glob("*.tflite")):
    network = load(path, name=path.stem)
    outputs = network(**np.load(path.with_name(path.stem.split("-")[0] + "-inputs.npz")))
    np.savez(path.with_suffix("." + sys.argv[2] + ".npz"), **outputs)
print(json.dumps("done"))
"""
PSNR_DB = {"fp16": 55.0, "int8": 25.0, "int8_weights": 35.0, "int8_full": 25.0, "int16": 35.0}


def quantised(graph, inputs, folder):
    """Models of integer activations by precision, calibrated on the inputs."""
    edited = folded(graph)
    observed = observe(edited, [(inputs, {})], folder / "observed.tflite")
    return {
        precision: QuantisedNetwork(
            graph.name, edited, form, ranges_of(observed, "mse", steps=form.steps)
        ).model()
        for precision, form in FORMATS.items()
    }


@pytest.fixture(scope="module")
def outputs(latent_diffusion, tmp_path_factory):
    """What Keras gives by network, and where the interpreters' outputs are."""
    folder, wanted = tmp_path_factory.mktemp("networks"), {}
    for name, graph in component_graphs(latent_diffusion).items():
        inputs = example_inputs(graph.inputs.values())
        np.savez(folder / f"{name}-inputs.npz", **inputs)
        (wanted[name],) = graph.run(**inputs).values()
        for precision in PRECISIONS:
            convert(graph, precision).save(folder / f"{name}-{precision}.tflite")
        for precision, model in quantised(graph, inputs, folder).items():
            model.save(folder / f"{name}-{precision}.tflite")
    for interpreter in INTERPRETERS:
        assert run_code(RUN, folder, interpreter, interpreter=interpreter) == "done"
    return folder, wanted


@pytest.mark.parametrize("precision", PSNR_DB)
@pytest.mark.parametrize("interpreter", INTERPRETERS)
def test_it_computes_what_keras_does(outputs, interpreter, precision):
    folder, wanted = outputs
    for name, expected in wanted.items():
        (found,) = np.load(folder / f"{name}-{precision}.{interpreter}.npz").values()
        assert psnr_db(expected, found) > PSNR_DB[precision], name


def test_weights_alone_are_nearer_than_activations_as_well(outputs):
    folder, wanted = outputs
    for name, expected in wanted.items():
        both, weights = (
            psnr_db(expected, *np.load(folder / f"{name}-{p}.ai_edge_litert.npz").values())
            for p in ("int8", "int8_weights")
        )
        assert weights > both - 1.0, name
