import errno

import numpy as np
import pytest
import safetensors.numpy
import tensorflow as tf
import tf_keras as keras

from tests.full_disk import full_disk
from tfsnap.config import AutoencoderConfig
from tfsnap.models.autoencoder import build_autoencoder
from tfsnap.weights.archive import describe, load_trained, open_trained
from tfsnap.weights.convert import read_tfsnap
from tfsnap.weights.store import (
    WeightFileError,
    WeightMismatchError,
    addressed,
    load_tensors,
    load_weights,
    save_tensors,
    save_weights,
)


def network(*names, width=3):
    """Dense layers of the given names, in that order, with weights that depend on the name only."""
    layers = []
    for name in names:
        layer = keras.layers.Dense(width, name=name)
        layer(tf.zeros([1, 2]))  # Called, not built, so that the weights carry its name.
        layer.kernel.assign(np.random.default_rng(len(name)).standard_normal([2, width]))
        layers.append(layer)
    return [weight for layer in layers for weight in layer.weights]


def test_round_trip_is_by_name_not_by_order(tmp_path):
    path = tmp_path / "w.safetensors"
    save_weights(path, network("a", "bb"))
    target = network("bb", "a")
    for variable in target:
        variable.assign(tf.zeros_like(variable))
    load_weights(path, target)
    expected = addressed(network("a", "bb"))
    assert set(expected) == {"a.kernel", "a.bias", "bb.kernel", "bb.bias"}
    for name, variable in addressed(target).items():
        np.testing.assert_array_equal(variable, expected[name])


def test_every_difference_is_listed_and_nothing_is_written(tmp_path):
    path = tmp_path / "w.safetensors"
    save_weights(path, network("a", "bb"))
    target = [*network("a", width=4), *network("ccc")]
    before = [variable.numpy() for variable in target]
    with pytest.raises(WeightMismatchError) as error:
        load_weights(path, target)
    message = str(error.value)
    assert "2 missing: ccc.bias, ccc.kernel" in message
    assert "2 unexpected: bb.bias, bb.kernel" in message
    assert (
        "2 mis-shaped: a.bias (file [3], model [4]), a.kernel (file [2, 3], model [2, 4])"
        in message
    )
    for variable, old in zip(target, before, strict=True):
        np.testing.assert_array_equal(variable, old)


def test_partial_loading_ignores_only_what_is_surplus(tmp_path):
    path = tmp_path / "w.safetensors"
    save_weights(path, network("a", "bb"))
    load_weights(path, network("a"), partial=True)
    with pytest.raises(WeightMismatchError, match="missing: ccc"):
        load_weights(path, network("ccc"), partial=True)


def test_half_precision_and_metadata(tmp_path):
    path = tmp_path / "w.safetensors"
    save_weights(path, network("a"), dtype="float16", metadata={"config": {"x": [1, None]}})
    tensors, metadata = load_tensors(path)
    assert tensors["a.kernel"].dtype == np.float16
    assert metadata == {"config": {"x": [1, None]}}
    target = network("a")
    load_weights(path, target)
    np.testing.assert_allclose(target[0], network("a")[0], rtol=1e-3)


def test_scalars_keep_their_shape(tmp_path):
    save_tensors(tmp_path / "t.safetensors", {"s": np.float32(2.5), "v": np.arange(3)[::-1]})
    tensors, _ = load_tensors(tmp_path / "t.safetensors")
    assert tensors["s"].shape == ()
    np.testing.assert_array_equal(tensors["v"], [2, 1, 0])


def test_damaged_files_are_named(tmp_path):
    path = tmp_path / "w.safetensors"
    with pytest.raises(WeightFileError, match="no such weight file"):
        load_tensors(path)
    save_weights(path, network("a"))
    path.write_bytes(path.read_bytes()[:-5])
    with pytest.raises(WeightFileError, match="not a complete safetensors file"):
        load_tensors(path)


def test_a_failed_write_leaves_the_old_file(tmp_path):
    path = tmp_path / "w.safetensors"
    save_tensors(path, {"a": np.zeros(2)})
    with pytest.raises(Exception, match="object"):
        save_tensors(path, {"a": np.array([object()])})
    np.testing.assert_array_equal(load_tensors(path)[0]["a"], np.zeros(2))
    assert [p.name for p in tmp_path.iterdir()] == ["w.safetensors"]


def test_a_full_disk_is_told_as_such_and_leaves_the_old_file(tmp_path):
    path = tmp_path / "w.safetensors"
    save_tensors(path, {"a": np.zeros(2)})
    with full_disk(), pytest.raises(OSError, match="too large: .*w.safetensors") as error:
        save_tensors(path, {"a": np.ones(10_000)})
    assert error.value.errno == errno.EFBIG
    np.testing.assert_array_equal(load_tensors(path)[0]["a"], np.zeros(2))
    assert [p.name for p in tmp_path.iterdir()] == ["w.safetensors"]


def test_two_weights_of_one_address_are_refused():
    with pytest.raises(ValueError, match=r"two weights are called 'a\.kernel'"):
        addressed(network("a", "a"))


def test_a_weight_file_builds_its_network(tmp_path):
    path = tmp_path / "w.safetensors"
    model = build_autoencoder(AutoencoderConfig(channels=(4, 8), groups=2, resnets=1, scale=0.7))
    save_weights(path, model.variables, metadata=describe(model, resolution=8))
    loaded = load_trained(path, "autoencoder")
    assert loaded.model.config == model.config
    assert loaded.about == {"resolution": 8}
    image = tf.random.stateless_uniform([1, 8, 8, 3], [0, 0])
    np.testing.assert_array_equal(loaded.model(image), model(image))
    with pytest.raises(WeightFileError, match="holds autoencoder; expected unet"):
        load_trained(path, "unet")


@pytest.mark.parametrize("change", [{"novel": 1}, {"groups": 0}, {"channels": 5}, None])
def test_a_description_that_makes_no_network_is_named(tmp_path, change):
    """Of a newer version, or damaged; to build the network and to convert it."""
    path = tmp_path / "w.safetensors"
    model = build_autoencoder(AutoencoderConfig(channels=(4, 8), groups=2, resnets=1))
    about = describe(model)
    about["config"] = change and {**about["config"], **change}
    save_weights(path, model.variables, metadata=about)
    for read in (
        lambda: load_trained(path, "autoencoder"),
        lambda: open_trained(path, "autoencoder"),
        lambda: read_tfsnap(path, ["autoencoder"]),
    ):
        with pytest.raises(WeightFileError, match=r"w\.safetensors: its description is damaged"):
            read()


def test_a_description_that_is_no_json_is_named(tmp_path):
    path = tmp_path / "w.safetensors"
    safetensors.numpy.save_file({"a": np.zeros(1)}, path, {"network": "{"})
    for read in (load_trained, open_trained):
        with pytest.raises(WeightFileError, match=r"w\.safetensors: its description is damaged"):
            read(path, "autoencoder")
