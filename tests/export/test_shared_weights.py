"""One file for several sizes: one copy of the weights, and the numbers of each size's own file."""

import weakref

import numpy as np
import pytest

from tests.runtime.processes import INTERPRETERS, run_code
from tfsnap.export.component_files import component_files
from tfsnap.export.converter import convert
from tfsnap.export.delegate import check_on_gpu
from tfsnap.export.flatbuffer import ConvertedModel
from tfsnap.export.graphs import unet_graph
from tfsnap.runtime.interpreter import load
from tfsnap.runtime.signatures import select_signature
from tfsnap.weights.lazy import LazyTensor

SHAPES = {"serving_default": (8, 12), "40x16": (20, 8)}  # Of latents.


def write_sized(folder, unet, shapes, precision):
    """Writes a UNet's file for each shape, by signature, and `merged.tflite` of all.

    Of that there is a copy for each signature, as the only one of `SIGNATURE.chosen`.
    """
    conversions = {
        key: convert(unet_graph(unet, latent=shape, tokens=12), precision)
        for key, shape in shapes.items()
    }
    (merged,) = component_files(conversions)
    merged.save(folder / "merged.tflite")
    for key, model in conversions.items():
        model.save(folder / f"{key}.tflite")
        merged.save(folder / f"{key}.chosen")
        select_signature(folder / f"{key}.chosen", key)


@pytest.fixture(scope="module")
def folders(latent_diffusion, session_dir):
    """By precision, a folder of `write_sized` for `SHAPES`."""
    found = {}
    for precision in ("fp16", "int8"):
        found[precision] = session_dir / f"sized-{precision}"
        found[precision].mkdir()
        write_sized(found[precision], latent_diffusion.unet, SHAPES, precision)
    return found


COMPARE = """
import json, pathlib, sys
import numpy as np
from tfsnap.runtime.interpreter import find_backend, load

folder, *keys = map(pathlib.Path, sys.argv[1:])
runner = find_backend().interpreter(model_path=str(folder / "merged.tflite"), num_threads=2)
found = {}
for key in map(str, keys):
    alone = load(folder / f"{key}.tflite", name=key)
    chosen = load(folder / f"{key}.chosen", name=key, signature=key)
    rng = np.random.default_rng(0)
    arrays = {t.name: rng.standard_normal(t.shape).astype(t.dtype) for t in alone.inputs}
    wanted = alone(**arrays)["prediction"]
    others = [
        chosen(**arrays)["prediction"],
        runner.get_signature_runner(key)(**arrays)["prediction"],
    ]
    errors = [float(abs(other - wanted).max() / np.ptp(wanted)) for other in others]
    found[key] = [chosen.delegate(), list(wanted.shape[1:3]), *errors]
print(json.dumps(found))
"""


@pytest.mark.parametrize("interpreter", INTERPRETERS)
@pytest.mark.parametrize("precision", ["fp16", "int8"])
def test_every_signature_gives_what_its_own_file_gives(folders, precision, interpreter):
    found = run_code(COMPARE, folders[precision], *SHAPES, interpreter=interpreter)
    for key, (delegate, shape, selected, signature) in found.items():
        assert (delegate, tuple(shape)) == ("XNNPACK", SHAPES[key])
        assert selected == 0.0
        # The runner of tflite-runtime leaves out XNNPACK; int8 activations then round otherwise.
        assert signature < 0.03, key


def test_the_weights_are_there_once(folders):
    for folder in folders.values():
        sizes = {path.stem: path.stat().st_size for path in folder.glob("*.tflite")}
        extra = sizes["merged"] - sizes["serving_default"]
        assert extra < 0.5 * sizes["serving_default"]  # Operators and names of a tiny network.


def test_files_are_merged_split_and_written_tensor_by_tensor(latent_diffusion, tmp_path):
    """At most the tensor before is in memory when one is read."""
    reads = []

    def watched(value):
        def read():
            assert sum(array() is not None for array in reads) <= 1
            array = value.read().copy()
            reads.append(weakref.ref(array))
            return array

        return LazyTensor(value.shape, value.dtype, read)

    models = {}
    for key, shape in SHAPES.items():
        model = convert(unet_graph(latent_diffusion.unet, latent=shape, tokens=12), "fp16")
        data = {number: watched(value) for number, value in model.data.items()}
        models[key] = ConvertedModel(key, model.model, data)
    for i, part in enumerate(component_files(models, chunks=2)):
        part.save(tmp_path / f"{i}.tflite")
    announced = sum(len(model.data) for model in models.values())
    assert announced < len(reads) < 2 * announced  # To be compared, and once to be written.


def check_against_keras(unet, shapes, folder):
    rng = np.random.default_rng(0)
    for key, shape in shapes.items():
        graph = unet_graph(unet, latent=shape, tokens=12)
        arrays = {n: rng.standard_normal(s.shape).astype("f") for n, s in graph.inputs.items()}
        wanted = graph.run(**arrays)["prediction"]
        network = load(folder / f"{key}.chosen", name=key, signature=key)
        found = network(**arrays)["prediction"]
        np.testing.assert_allclose(found, wanted, atol=2e-3 * np.ptp(wanted))


def test_keras_agrees_at_every_shape(folders, latent_diffusion):
    check_against_keras(latent_diffusion.unet, SHAPES, folders["fp16"])


@pytest.mark.large
def test_keras_agrees_at_the_shapes_of_stable_diffusion(latent_diffusion, tmp_path):
    """Pictures of 256 to 768 pixels, eight to a cell of the latent."""
    shapes = {"serving_default": (64, 64), "512x768": (64, 96), "768x512": (96, 64)}
    shapes |= {f"{8 * side}x{8 * side}": (side, side) for side in (32, 48, 96)}
    write_sized(tmp_path, latent_diffusion.unet, shapes, "fp16")
    check_against_keras(latent_diffusion.unet, shapes, tmp_path)


def test_the_gpu_runs_a_chosen_signature_whole(folders):
    network = load(folders["fp16"] / "40x16.chosen", name="unet", signature="40x16")
    rng = np.random.default_rng(0)
    arrays = {t.name: rng.standard_normal(t.shape).astype(t.dtype) for t in network.inputs}
    report = check_on_gpu(folders["fp16"] / "40x16.chosen", arrays)
    assert report.passed, report


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "no signature '8x8', only 40x16, serving_default"),
        (b"GIF89a" * 10, "no TFLite file"),
    ],
)
def test_a_signature_that_is_not_there(folders, tmp_path, content, message):
    path = tmp_path / "model.tflite"
    path.write_bytes(content or (folders["int8"] / "merged.tflite").read_bytes())
    with pytest.raises(ValueError, match=message):
        select_signature(path, "8x8")
