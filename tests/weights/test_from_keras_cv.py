"""KerasCV's networks, small ones made of its own layers, give the same pictures here."""

import shutil

import h5py
import numpy as np
import pytest
import tensorflow as tf
import tf_keras as keras
from keras_cv.src.models.stable_diffusion.attention_block import AttentionBlock
from keras_cv.src.models.stable_diffusion.diffusion_model import (
    ResBlock,
    SpatialTransformer,
    Upsample,
)
from keras_cv.src.models.stable_diffusion.padded_conv2d import PaddedConv2D
from keras_cv.src.models.stable_diffusion.resnet_block import ResnetBlock
from keras_cv.src.models.stable_diffusion.text_encoder import CLIPEmbedding, CLIPEncoderLayer

from tests.weights.references import TOLERANCE, ours, relative_error
from tfsnap.models.unet import time_features
from tfsnap.weights import convert
from tfsnap.weights.archive import load_trained
from tfsnap.weights.component import NETWORKS
from tfsnap.weights.from_keras_cv import read_keras_cv_models
from tfsnap.weights.tensors import WeightFileError, WeightMismatchError

SIDE, TOKENS, CONTEXT = 8, 5, 16


def randomised(model, seed=0):
    rng = np.random.default_rng(seed)
    for variable in model.variables:
        noise = rng.standard_normal(variable.shape)
        if variable.shape.rank == 1:
            variable.assign_add(0.1 * noise)
        else:
            variable.assign(noise * np.prod(variable.shape[:-1]) ** -0.5)
    return model


def make_unet(resnets=2, second=False):
    """Two stages, the way keras_cv's DiffusionModel goes."""
    heads = (1, 64) if second else (8, 4)
    widths = (64, 128) if second else (32, 64)

    def transformer(x):
        count = heads[0] * x.shape[-1] // widths[0] if second else heads[0]
        layer = SpatialTransformer(count, x.shape[-1] // count, fully_connected=second)
        return layer([x, context])

    latent = keras.Input([SIDE, SIDE, 4])
    time_in = keras.Input([widths[0]])
    context = keras.Input([TOKENS, CONTEXT])
    time = keras.layers.Dense(4 * widths[0])(time_in)
    time = keras.layers.Dense(4 * widths[0])(keras.layers.Activation("swish")(time))
    x = PaddedConv2D(widths[0], 3, padding=1)(latent)
    skips = [x]
    for _ in range(resnets):
        x = transformer(ResBlock(widths[0])([x, time]))
        skips.append(x)
    x = PaddedConv2D(widths[0], 3, strides=2, padding=1)(x)
    skips.append(x)
    for _ in range(resnets):
        x = ResBlock(widths[1])([x, time])
        skips.append(x)
    x = ResBlock(widths[1])([transformer(ResBlock(widths[1])([x, time])), time])
    for _ in range(resnets + 1):
        x = ResBlock(widths[1])([keras.layers.Concatenate()([x, skips.pop()]), time])
    x = Upsample(widths[1])(x)
    for _ in range(resnets + 1):
        x = transformer(ResBlock(widths[0])([keras.layers.Concatenate()([x, skips.pop()]), time]))
    x = keras.layers.Activation("swish")(keras.layers.GroupNormalization(epsilon=1e-5)(x))
    x = PaddedConv2D(4, 3, padding=1)(x)
    return randomised(keras.Model([latent, time_in, context], x))


def make_text_encoder():
    tokens = keras.Input([9], dtype="int32")
    positions = keras.Input([9], dtype="int32")
    x = CLIPEmbedding(50, 128, 9)([tokens, positions])
    for _ in range(2):
        x = CLIPEncoderLayer(128, 2, activation=lambda x: x * tf.sigmoid(1.702 * x))(x)
    x = keras.layers.LayerNormalization(epsilon=1e-5)(x)
    return randomised(keras.Model([tokens, positions], x))


def make_decoder():
    layers = [
        keras.Input([4, 4, 4]),
        PaddedConv2D(4, 1),
        PaddedConv2D(64, 3, padding=1),
        *(ResnetBlock(64), AttentionBlock(64), ResnetBlock(64)),
        *(ResnetBlock(64), ResnetBlock(64)),
        keras.layers.UpSampling2D(2),
        PaddedConv2D(64, 3, padding=1),
        *(ResnetBlock(32), ResnetBlock(32)),
        keras.layers.GroupNormalization(epsilon=1e-5),
        keras.layers.Activation("swish"),
        PaddedConv2D(3, 3, padding=1),
    ]
    return randomised(keras.Sequential(layers))


def make_image_encoder():
    layers = [
        keras.Input([8, 8, 3]),
        PaddedConv2D(32, 3, padding=1),
        ResnetBlock(32),
        PaddedConv2D(32, 3, padding=((0, 1), (0, 1)), strides=2),
        ResnetBlock(64),
        *(ResnetBlock(64), AttentionBlock(64), ResnetBlock(64)),
        keras.layers.GroupNormalization(epsilon=1e-5),
        keras.layers.Activation("swish"),
        PaddedConv2D(8, 3, padding=1),
        PaddedConv2D(8, 1),
    ]
    return randomised(keras.Sequential(layers))


@pytest.fixture(scope="module")
def models():
    return {
        "diffusion_model": make_unet(),
        "text_encoder": make_text_encoder(),
        "decoder": make_decoder(),
        "image_encoder": make_image_encoder(),
    }


@pytest.fixture(scope="module")
def folder(models, tmp_path_factory):
    folder = tmp_path_factory.mktemp("keras_cv") / "h5"
    folder.mkdir()
    for name, model in models.items():
        model.save_weights(folder / f"{name}.h5", save_format="h5")
    return folder


def unet_error(model, reference):
    rng = np.random.default_rng(1)
    latent = rng.standard_normal([2, SIDE, SIDE, 4], np.float32)
    context = rng.standard_normal([2, TOKENS, CONTEXT], np.float32)
    times = np.array([981, 7])
    features = time_features(times, model.config.time_width)[:, 0]
    expected = reference([latent, features, context])
    return relative_error(model(latent, timesteps=times, context=context), expected)


def test_unet(models, folder):
    assert unet_error(ours(folder, "unet").model, models["diffusion_model"]) <= TOLERANCE


def test_text_encoder(models, folder):
    tokens = np.random.default_rng(0).integers(0, 50, [2, 9]).astype(np.int32)
    positions = np.tile(np.arange(9, dtype=np.int32), [2, 1])
    expected = models["text_encoder"]([tokens, positions])
    actual = ours(folder, "text_encoder").model(tokens)
    assert relative_error(actual, expected) <= TOLERANCE


def test_autoencoder(models, folder):
    model = ours(folder, "autoencoder").model
    rng = np.random.default_rng(0)
    latent = rng.standard_normal([2, 4, 4, 4], np.float32)
    image = rng.uniform(-1, 1, [2, 8, 8, 3]).astype(np.float32)
    assert relative_error(model.decoder(latent), models["decoder"](latent)) <= TOLERANCE
    moments = tf.concat(model.encoder(image), axis=-1)
    assert relative_error(moments, models["image_encoder"](image)) <= TOLERANCE


def test_live_models_in_any_order_and_linear_projections(models, folder, tmp_path):
    live = read_keras_cv_models([*models.values()][::-1], NETWORKS)
    filed = convert.read(folder, convert.KERAS_CV)
    for mine, theirs in zip(live, filed, strict=True):
        assert mine.config == theirs.config
        for key, tensor in theirs.tensors.items():
            np.testing.assert_array_equal(mine.tensors[key].read(), tensor.read())
    second = make_unet(resnets=1, second=True)
    (unet,) = read_keras_cv_models([second], ["unet"])
    assert unet.config.head_width == 64
    convert.write([unet], tmp_path / "second", convert.TFSNAP)
    model = load_trained(tmp_path / "second" / "unet.safetensors", "unet").model
    assert unet_error(model, second) <= TOLERANCE


def test_two_of_one_kind_are_refused_where_one_is_wanted(models, folder, tmp_path):
    both = tmp_path / "both"
    shutil.copytree(folder, both)
    shutil.copy(folder / "diffusion_model.h5", both / "another.h5")
    with pytest.raises(
        WeightMismatchError, match=r"another.h5 and diffusion_model.h5 hold one unet"
    ):
        convert.read(both, convert.KERAS_CV)
    assert convert.read(both, convert.KERAS_CV, ["text_encoder"])
    twice = [models["decoder"], models["image_encoder"], models["decoder"]]
    with pytest.raises(WeightMismatchError, match=r"and sequential\w* hold one decoder each"):
        read_keras_cv_models(twice, ["autoencoder"])


def test_what_is_missing_or_strange_is_named(folder, tmp_path):
    with pytest.raises(WeightMismatchError) as error:
        convert.read(folder / "decoder.h5", convert.KERAS_CV)
    assert "unet: there is no unet among ['decoder']" in str(error.value)
    assert "autoencoder: there is no image_encoder among" in str(error.value)
    damaged = tmp_path / "d.h5"
    damaged.write_bytes((folder / "decoder.h5").read_bytes()[:5000])
    with pytest.raises(WeightFileError, match="truncated"):
        convert.read(damaged, convert.KERAS_CV)
    with h5py.File(damaged, "w") as file:
        file.attrs["layer_names"] = [b"one"]
    content = bytearray(damaged.read_bytes())
    content[content.index(b"layer_names") + 18] |= 0x0F  # The encoding of its strings.
    damaged.write_bytes(content)
    with pytest.raises(WeightFileError, match="truncated, or no HDF5 file"):
        convert.read(damaged, convert.KERAS_CV)
    with h5py.File(tmp_path / "v3.h5", "w") as file:
        file.create_group("layers")
    with pytest.raises(WeightFileError, match="does not list its layers"):
        convert.read(tmp_path / "v3.h5", convert.KERAS_CV)
    classifier = keras.Sequential([keras.layers.Conv2D(4, 3, input_shape=[8, 8, 3])])
    classifier.save_weights(tmp_path / "c.h5")
    with pytest.raises(WeightMismatchError, match="there is no decoder among"):
        convert.read(tmp_path / "c.h5", convert.KERAS_CV, ["autoencoder"])
