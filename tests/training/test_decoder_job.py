"""What a decoder's job starts from, and that its steps change the decoder alone."""

import numpy as np
import pytest
import tensorflow as tf
import tf_keras as keras

from tests.training.tiny_job import TRAINING, shared_strategy
from tfsnap.config import AutoencoderConfig, TinyDecoderConfig
from tfsnap.data.shards import ShardError
from tfsnap.models.autoencoder import build_autoencoder
from tfsnap.training.jobs.decoder import DecoderJob
from tfsnap.training.portable import compile_step
from tfsnap.training.precision import computing_in
from tfsnap.training.trainer import Trainer
from tfsnap.weights.archive import describe, load_trained
from tfsnap.weights.store import WeightFileError, addressed, save_weights

AUTOENCODER = AutoencoderConfig(channels=(8, 16), groups=4, resnets=1, scale=0.7)
TINY = TinyDecoderConfig(channels=(4, 8), blocks=(1, 1))


@pytest.fixture(scope="module")
def teacher(tmp_path_factory):
    """The file of an autoencoder that nobody trained, with a description."""
    keras.utils.set_random_seed(0)
    model = build_autoencoder(AUTOENCODER)
    path = tmp_path_factory.mktemp("teacher") / "weights.safetensors"
    save_weights(path, model.variables, metadata=describe(model, resolution=16))
    return str(path)


@pytest.fixture
def job(teacher):
    return DecoderJob(
        autoencoder=teacher, decoder_channels=None, tiny_decoder=TINY, training=TRAINING
    )


def values(model):
    return {name: variable.numpy() for name, variable in addressed(model.variables).items()}


def test_a_tiny_decoder_starts_afresh_around_what_the_teacher_has(job):
    keras.utils.set_random_seed(1)
    model, teacher = job.build()[0], values(job.teacher.model)
    assert model.config == AUTOENCODER.replace(tiny_decoder=TINY)
    assert not model.encoder.trainable
    own = values(model)
    kept = [name for name in own if not name.startswith("decoder.")]
    assert {"quant_conv.bias", "post_quant_conv.kernel", "encoder.conv_in.kernel"} <= set(kept)
    for name in kept:
        np.testing.assert_array_equal(own[name], teacher[name])
    assert np.ptp(own["decoder.conv_in.kernel"]) > 0
    assert np.ptp(own["decoder.up.0.blocks.0.expand.kernel"]) > 0


def test_it_learns_and_its_file_is_an_autoencoders(job, tmp_path):
    keras.utils.set_random_seed(1)
    trainer = Trainer(job, workdir=tmp_path, strategy=shared_strategy("one"))
    latent = np.random.default_rng(0).standard_normal([8, 4, 4, 4]).astype(np.float32)
    losses = [float(trainer.train_step({"latent": latent}, k)["loss"]) for k in range(6)]
    assert losses[-1] < 0.8 * losses[0]
    model = trainer.model
    path = tmp_path / "student.safetensors"
    save_weights(path, model.variables, metadata=job.describe(model))
    again = load_trained(path, "autoencoder")
    assert again.about == {"resolution": 16}
    expected = model.decoder(tf.constant(latent))
    np.testing.assert_allclose(again.model.decoder(tf.constant(latent)), expected, atol=1e-5)
    teacher, student = values(job.teacher.model), values(again.model)
    for name in student:
        if name.startswith(("encoder.", "quant_conv.")):
            np.testing.assert_array_equal(student[name], teacher[name])


@pytest.fixture
def sampled(monkeypatch):
    """Pools without networks: all zeros."""

    def pool(self, number, count):
        return np.zeros([count, 8, 8, 4], np.float32)

    monkeypatch.setattr(DecoderJob, "_sampled", pool)


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"guidance": 2.0}, "guidance was 7.5, is 2.0"),
        ({"steps": 4}, "steps was 50, is 4"),
        ({"pool": 5}, "pool was 6, is 5"),
        ({"training": TRAINING.replace(seed=1)}, "seed was 0, is 1"),
        ({"unet": __file__}, "weights.unet was"),
    ],
)
def test_a_pool_of_another_config_is_refused(job, sampled, tmp_path, change, told):
    file = job.autoencoder
    job = job.replace(clip=file, unet=file, cache=str(tmp_path), pool=6)
    job.batches(0)
    job.replace(training=TRAINING.replace(steps=2 * TRAINING.steps)).batches(0)  # The same pools.
    with pytest.raises(ShardError, match=f"pool-000000.* was sampled for another config: {told}"):
        job.replace(**change).batches(0)


def test_the_teacher_is_precise_whatever_the_student_computes_in(job):
    images = tf.zeros([1, 16, 16, 3])
    with computing_in("bfloat16"):
        model, _ = job.build()
    assert model.decoder(model.encoder(images)[0]).dtype == tf.bfloat16
    teacher = job.teacher.model
    assert teacher.decoder(teacher.encoder(images)[0]).dtype == tf.float32


def test_a_missing_unet_is_told_before_the_first_step(job):
    with pytest.raises(WeightFileError, match="nowhere: no such weight file"):
        job.replace(unet="nowhere").batches(0)


def test_several_pools_cannot_be_compiled(job, tmp_path, monkeypatch):
    """A step that was compiled would train on the first of them throughout."""
    latents = np.zeros([8, 8, 8, 4], np.float32)
    monkeypatch.setattr(DecoderJob, "_sampled", lambda self, number, count: latents[:count])
    several = job.replace(pool=8, pool_steps=2)
    with pytest.raises(ValueError, match="pool_steps is 2, .* one pool: it must be 0"):
        compile_step(several, output=tmp_path / "step", workdir=tmp_path / "run")
    assert not (tmp_path / "step").exists()
    one = several.replace(pool_steps=0)
    assert one.source().at(0)["latent"].shape == (8, 8, 8, 4)


def test_a_job_has_one_kind_of_decoder(job):
    with pytest.raises(ValueError, match="decoder_channels is .*None with a tiny_decoder"):
        job.replace(decoder_channels=(4, 8))
    with pytest.raises(ValueError, match="decoder_channels is None"):
        job.replace(tiny_decoder=None)
    assert DecoderJob.from_dict(job.to_dict()) == job
