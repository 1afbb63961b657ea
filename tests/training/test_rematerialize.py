"""Layers that compute again instead of remembering: the same gradients, when they are wanted."""

import numpy as np
import pytest
import tensorflow as tf
import tf_keras as keras

from tests.training.tiny_job import TRAINING, UNET, TinyJob, shared_strategy
from tfsnap.models.unet import build_unet
from tfsnap.training.rematerialize import rematerialize
from tfsnap.training.trainer import Trainer, TrainingError


class Logged(keras.layers.Layer):
    """A product that writes its name down each time it is computed."""

    def __init__(self, log, name):
        super().__init__(name=name)
        self.log = log
        self.scale = self.add_weight("scale", [], initializer="ones")

    def call(self, x, *, factor):
        def write(value):
            self.log.append(self.name)
            return value

        out = tf.py_function(write, [tf.sin(x * factor * self.scale)], tf.float32)
        return tf.ensure_shape(out, x.shape)


class Chain(keras.Model):
    def __init__(self, log):
        super().__init__()
        self.blocks = [Logged(log, name) for name in ("first", "second", "third")]

    def call(self, x):
        for block in self.blocks:
            x = block(x, factor=tf.constant(2.0))
        return x


def test_a_layer_runs_again_only_when_its_gradient_is_wanted():
    log = []
    model = Chain(log)
    x = tf.constant([0.3, 0.4])
    model(x)
    assert rematerialize(model, ["first", "s*"]) == ["first", "second"]

    @tf.function(autograph=False)
    def gradients():
        with tf.GradientTape() as tape:
            loss = tf.reduce_sum(model(x))
        return tape.gradient(loss, model.trainable_variables)

    log.clear()
    gradients()
    # Not "first" until the gradient has come back through "second".
    assert log == ["first", "second", "third", "second", "first"]


def test_xla_does_not_merge_the_second_run_with_the_first():
    def convolutions(patterns):
        names = ("one", "two", "three")
        blocks = [keras.layers.Conv2D(4, 3, activation="silu", name=name) for name in names]
        model = keras.Sequential(blocks)
        model.build([1, 16, 16, 4])
        rematerialize(model, patterns)

        @tf.function(jit_compile=True, autograph=False)
        def gradients(x):
            with tf.GradientTape() as tape:
                loss = tf.reduce_sum(tf.square(model(x)))
            return tape.gradient(loss, model.trainable_variables)

        image = tf.ones([1, 16, 16, 4])
        text = gradients.experimental_get_compiler_ir(image)(stage="optimized_hlo")
        return text.count(" convolution(")

    assert convolutions(["one", "two"]) == convolutions([]) + 2


def test_of_nested_layers_the_outermost_is_taken():
    assert rematerialize(build_unet(UNET), ["down.*", "mid"]) == ["down.0", "mid"]


def test_it_comes_with_half_precision(tmp_path):
    runs = []
    for number, names in enumerate([(), ("up.0", "mid", "conv_in", "time.in")]):
        job = TinyJob(training=TRAINING.replace(rematerialize=names, precision="bfloat16"))
        trainer = Trainer(job, workdir=tmp_path / str(number), strategy=shared_strategy("one"))
        runs.append([float(trainer.train_step(job.batch(k), k)["loss"]) for k in range(2)])
    np.testing.assert_allclose(runs[1], runs[0], rtol=1e-4)


def test_a_name_that_no_layer_has_is_answered_with_those_there_are(tmp_path):
    job = TinyJob(training=TRAINING.replace(rematerialize=("down.7",)))
    with pytest.raises(TrainingError, match=r"has 'down\.7', which names no layer; .*down\.0, mid"):
        Trainer(job, workdir=tmp_path, strategy=shared_strategy("one"))
