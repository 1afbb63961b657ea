"""Each objective against a twin in float64 numpy."""

import dataclasses

import numpy as np
import pytest
import tensorflow as tf

from tfsnap.diffusion.schedule import NoiseSchedule
from tfsnap.objectives.autoencode import Autoencode
from tfsnap.objectives.base import Draws, normal_from_bits
from tfsnap.objectives.contrastive import Contrastive
from tfsnap.objectives.decoder_distill import DecoderDistill
from tfsnap.objectives.denoise import Denoise

ROWS = 6


def draws(rows=ROWS, **more):
    return Draws(seed=tf.constant([3, 11]), rows=rows, **more)


def encode(tokens):
    return tf.cast(tokens, tf.float32)[..., None]


def predict(z, *, timesteps, context):
    """A stand-in for a network: depends on every input."""
    time = tf.reshape(tf.cast(timesteps, tf.float32), [-1, 1, 1, 1])
    return 0.5 * z + 1e-3 * time + tf.reduce_mean(context, axis=[1, 2])[:, None, None, None]


@pytest.mark.parametrize("prediction", ["epsilon", "v"])
def test_denoise(prediction):
    rng = np.random.default_rng(0)
    moments = rng.standard_normal([ROWS, 2, 3, 8]).astype(np.float16)
    tokens = rng.integers(0, 5, [ROWS, 4]).astype(np.int32)
    objective = Denoise(encode, NoiseSchedule(), prediction, scale=0.7)
    batch = {"moments": tf.constant(moments), "tokens": tf.constant(tokens)}
    loss, metrics = objective(predict, batch, draws())

    mean, logvar = np.split(moments.astype(np.float64), 2, axis=-1)
    jitter, eps = (draws().normal([2, 3, 4], stream=i).numpy() for i in (0, 1))
    t = draws().integers(high=1000, stream=2).numpy()
    betas = np.linspace(0.00085**0.5, 0.012**0.5, 1000) ** 2
    alpha_bar = np.cumprod(1 - betas)[t].reshape(-1, 1, 1, 1)
    alpha, sigma = np.sqrt(alpha_bar), np.sqrt(1 - alpha_bar)
    x = (mean + np.exp(logvar / 2) * jitter) * 0.7
    z = alpha * x + sigma * eps
    output = 0.5 * z + 1e-3 * t.reshape(-1, 1, 1, 1) + tokens.mean(1).reshape(-1, 1, 1, 1)
    target = eps if prediction == "epsilon" else alpha * eps - sigma * x
    np.testing.assert_allclose(loss, ((output - target) ** 2).mean((1, 2, 3)), rtol=1e-4)
    np.testing.assert_array_equal(metrics["mse"], loss)


def test_denoise_refuses_other_predictions():
    with pytest.raises(ValueError, match="'sample'"):
        Denoise(encode, NoiseSchedule(), "sample", scale=1.0)


@dataclasses.dataclass
class FakeAutoencoder:
    mean: np.ndarray
    logvar: np.ndarray

    def encoder(self, image):
        return tf.constant(self.mean, tf.float32), tf.constant(self.logvar, tf.float32)

    def decoder(self, latent):
        return tf.repeat(tf.repeat(latent[..., :3], 2, axis=1), 2, axis=2)


def test_autoencode():
    rng = np.random.default_rng(1)
    image = rng.uniform(-1, 1, [ROWS, 4, 6, 3])
    mean, logvar = rng.standard_normal([2, ROWS, 2, 3, 4])
    model = FakeAutoencoder(mean, logvar)
    batch = {"image": tf.constant(image, tf.float32)}
    loss, metrics = Autoencode(kl_weight=0.3, edge_weight=2.0)(model, batch, draws())

    noise = draws().normal([2, 3, 4], stream=0).numpy()
    latent = mean + np.exp(logvar / 2) * noise
    error = latent[..., :3].repeat(2, 1).repeat(2, 2) - image
    edge = np.abs(np.diff(error, axis=1)).mean((1, 2, 3))
    edge = (edge + np.abs(np.diff(error, axis=2)).mean((1, 2, 3))) / 2
    kl = 0.5 * (mean**2 + np.exp(logvar) - 1 - logvar).sum(-1).mean((1, 2))
    expected = np.abs(error).mean((1, 2, 3)) + 2.0 * edge + 0.3 * kl
    np.testing.assert_allclose(loss, expected, rtol=1e-4)
    psnr = 10 * np.log10(4 / (error**2).mean((1, 2, 3)))
    np.testing.assert_allclose(metrics["psnr"], psnr, rtol=1e-4)
    np.testing.assert_allclose(metrics["kl"], kl, rtol=1e-4)


@dataclasses.dataclass
class FakeClip:
    logit_scale: float

    def __call__(self, image, *, tokens):
        return tuple(tf.math.l2_normalize(tf.cast(x, tf.float32), axis=-1) for x in (image, tokens))


def log_softmax(x):
    x = x - x.max(-1, keepdims=True)
    return x - np.log(np.exp(x).sum(-1, keepdims=True))


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_contrastive(smoothing):
    rng = np.random.default_rng(2)
    image, text = rng.standard_normal([2, ROWS, 5])
    batch = {"image": tf.constant(image), "tokens": tf.constant(text)}
    loss, metrics = Contrastive(smoothing)(FakeClip(1.5), batch, draws())

    image /= np.linalg.norm(image, axis=-1, keepdims=True)
    text /= np.linalg.norm(text, axis=-1, keepdims=True)
    logits = np.exp(1.5) * image @ text.T
    target = np.eye(ROWS) * (1 - smoothing) + smoothing / ROWS
    losses = [-(target * log_softmax(x)).sum(-1) for x in (logits, logits.T)]
    np.testing.assert_allclose(loss, (losses[0] + losses[1]) / 2, rtol=1e-4)
    np.testing.assert_array_equal(metrics["top1"], logits.T.argmax(-1) == np.arange(ROWS))


def test_temperature_is_clipped_at_100():
    rows = tf.constant(np.random.default_rng(0).standard_normal([ROWS, 5]), tf.float32)
    batch = {"image": rows, "tokens": rows[::-1]}
    clipped, beyond = (
        Contrastive()(FakeClip(float(s)), batch, draws())[0] for s in (np.log(100), 9.0)
    )
    np.testing.assert_allclose(clipped, beyond, rtol=1e-3)


@pytest.mark.parametrize("order", [1, -1], ids=["right captions", "wrong captions"])
def test_a_temperature_beyond_the_limit_comes_back_and_goes_no_further(order):
    """Of right captions the loss wants it larger, of wrong ones smaller."""
    near = 1.0 + 0.1 * np.random.default_rng(0).standard_normal([ROWS, 5])
    rows = tf.constant(near, tf.float32)
    scale = tf.Variable(4.7)
    with tf.GradientTape() as tape:
        batch = {"image": rows, "tokens": rows[::order]}
        loss = tf.reduce_mean(Contrastive()(FakeClip(scale), batch, draws())[0])
    gradient = tape.gradient(loss, scale).numpy()
    assert gradient == 0.0 if order == 1 else gradient > 0.1, gradient


def test_draws_do_not_depend_on_the_number_of_replicas():
    whole = draws(rows=6)
    parts = [draws(rows=2, first=2 * r, total=6) for r in range(3)]
    together = np.concatenate([p.normal([4], stream=1) for p in parts])
    np.testing.assert_array_equal(together, whole.normal([4], stream=1))
    together = np.concatenate([p.integers(high=1000, stream=1) for p in parts])
    np.testing.assert_array_equal(together, whole.integers(high=1000, stream=1))


def test_draws_are_standard_normal_and_independent():
    big = draws(rows=50_000)
    a, b = big.normal([2], stream=0).numpy(), big.normal([2], stream=1).numpy()
    assert abs(a.mean()) < 0.01 and abs(a.std() - 1) < 0.01
    assert abs((a**4).mean() - 3) < 0.1  # Kurtosis of the normal distribution.
    assert abs(np.corrcoef(a.ravel(), b.ravel())[0, 1]) < 0.01
    assert abs(np.corrcoef(a[:, 0], a[:, 1])[0, 1]) < 0.015
    other = Draws(seed=tf.constant([3, 12]), rows=50_000).normal([2], stream=0).numpy()
    assert abs(np.corrcoef(a.ravel(), other.ravel())[0, 1]) < 0.01


def test_draws_are_finite_at_both_ends_and_symmetric():
    lowest, middle, highest = normal_from_bits(
        tf.constant([0, 2**31, 2**32 - 1], tf.uint32)
    ).numpy()
    assert np.isfinite([lowest, highest]).all()
    assert lowest == pytest.approx(-highest, rel=1e-3)
    assert highest > 5.0
    assert middle == pytest.approx(0.0, abs=1e-6)


@pytest.mark.parametrize("edge_weight", [0.0, 0.5])
def test_decoder_distill(edge_weight):
    rng = np.random.default_rng(4)
    latent = rng.standard_normal([ROWS, 2, 3, 4])
    model = FakeAutoencoder(latent, latent)

    def teacher(z):
        return 0.5 * model.decoder(z) ** 2

    batch = {"latent": tf.constant(latent, tf.float32)}
    loss, metrics = DecoderDistill(teacher, edge_weight)(model, batch, draws())

    student = latent[..., :3].repeat(2, 1).repeat(2, 2)
    error = student - 0.5 * student**2
    squared = (error**2).mean((1, 2, 3))
    edge = np.abs(np.diff(error, axis=1)).mean((1, 2, 3))
    edge = (edge + np.abs(np.diff(error, axis=2)).mean((1, 2, 3))) / 2
    np.testing.assert_allclose(loss, squared + edge_weight * edge, rtol=1e-4)
    np.testing.assert_allclose(metrics["psnr"], 10 * np.log10(4 / squared), rtol=1e-4)


def test_decoder_distill_does_not_train_the_teacher():
    weight = tf.Variable(2.0)
    model = FakeAutoencoder(np.zeros([1]), np.zeros([1]))
    objective = DecoderDistill(lambda z: weight * model.decoder(z))
    with tf.GradientTape() as tape:
        loss, _ = objective(model, {"latent": tf.ones([1, 2, 2, 4])}, draws(1))
    assert tape.gradient(loss, weight) is None
