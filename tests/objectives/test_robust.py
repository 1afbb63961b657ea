"""Robust training: blocks that sit out a step, chosen by the step alone."""

import dataclasses

import numpy as np
import pytest
import tensorflow as tf

from tests.small_unet import randomised_unet
from tests.training.tiny_job import TRAINING, TinyJob, shared_strategy
from tfsnap.config import StageConfig, UNetConfig
from tfsnap.diffusion.schedule import NoiseSchedule
from tfsnap.models.unet import build_unet
from tfsnap.objectives.base import Draws
from tfsnap.objectives.contrastive import Contrastive
from tfsnap.objectives.denoise import Denoise
from tfsnap.objectives.robust import Robust
from tfsnap.training.trainer import Trainer

CONFIG = UNetConfig(
    down=(StageConfig(8, 2, (1, 1)), StageConfig(16, 2, 0)),
    mid=StageConfig(16, 2, (1, 0)),
    up=(StageConfig(16, 3, 0), StageConfig(8, 3, 0)),
    context_width=6,
    heads=2,
    groups=4,
)
DENOISE = Denoise(None, NoiseSchedule(), "v", scale=1.0)


@pytest.fixture(scope="module")
def unet():
    return randomised_unet(CONFIG)


@pytest.fixture(scope="module")
def batch():
    rng = np.random.default_rng(1)
    return {
        "moments": rng.standard_normal([2, 4, 4, 8]).astype(np.float32),
        "context": rng.standard_normal([2, 3, 6]).astype(np.float32),
    }


def inputs(batch):
    latent = tf.constant(batch["moments"][..., :4])
    return latent, {"timesteps": tf.constant([3, 700]), "context": tf.constant(batch["context"])}


def draws_of(step):
    return Draws(seed=tf.stack([0, tf.cast(step, tf.int32)]), rows=2)


def test_a_network_with_nothing_to_leave_out_runs_whole(batch):
    bare = UNetConfig(
        down=(StageConfig(8, 1, 0),),
        mid=None,
        up=(StageConfig(8, 2, 0),),
        context_width=6,
        groups=4,
    )
    model = randomised_unet(bare)
    expected, _ = DENOISE(model, batch, draws_of(4))
    found, figures = Robust(DENOISE, 0.5)(model, batch, draws_of(4))
    np.testing.assert_array_equal(found, expected)
    np.testing.assert_array_equal(figures["blocks"], [1.0, 1.0])


def test_all_blocks_run_at_probability_one(unet, batch):
    expected, _ = DENOISE(unet, batch, draws_of(4))
    found, figures = Robust(DENOISE, 1.0)(unet, batch, draws_of(4))
    np.testing.assert_array_equal(found, expected)
    np.testing.assert_array_equal(figures["blocks"], [1.0, 1.0])


def muted(unet, name):
    """A copy of which a block's residual branch returns zero."""
    copy = build_unet(unet.config)
    copy.set_weights(unet.get_weights())
    (block,) = [layer for layer in copy.submodules if getattr(layer, "name", "") == name]
    last = block.conv2 if hasattr(block, "conv2") else block.proj_out
    last.set_weights([np.zeros_like(weight) for weight in last.get_weights()])
    return copy


def test_a_block_that_does_not_run_is_the_identity(unet, batch):
    latent, others = inputs(batch)
    # ResNets of the way up have skip connections: the first one of this changes the channels.
    names = [name for name in unet.blocks if not name.startswith("up.")]
    for name in (*names, "up.1.resnets.0"):
        found = unet(latent, run={name: tf.constant(False)}, **others)
        copy = muted(unet, name)
        np.testing.assert_allclose(found, copy(latent, **others), atol=1e-5, err_msg=name)
        assert np.abs(found - unet(latent, **others)).max() > 1e-3, name


def test_a_resnet_of_the_way_up_that_does_not_run_reads_no_skip_connection(unet, batch):
    latent, others = inputs(batch)
    name, passing = "up.1.resnets.1", muted(unet, "up.1.resnets.1")
    shortcut = passing.up[1].resnets[1].shortcut
    shortcut.set_weights([np.eye(16, 8, dtype=np.float32)[None, None], np.zeros(8, np.float32)])
    found = unet(latent, run={name: tf.constant(False)}, **others)
    np.testing.assert_allclose(found, passing(latent, **others), atol=1e-5)


def test_the_choice_is_the_steps_and_nothing_is_traced_again(unet, batch):
    robust = Robust(DENOISE, 0.5)
    steps = {
        compiled: tf.function(
            lambda step: robust(unet, batch, draws_of(step)), jit_compile=compiled, autograph=False
        )
        for compiled in (False, True)
    }
    choices, rows = set(), CONFIG.removable
    assert ("down.1.resnets.1", "up.0.resnets.1") in rows
    for step in range(6):
        draws = draws_of(step)
        chosen = draws.coins(len(rows), probability=0.5, stream=1_000).numpy()
        coins = zip(rows, chosen, strict=True)
        run = {name: tf.constant(on) for names, on in coins for name in names}
        expected, _ = DENOISE(lambda z, run=run, **rest: unet(z, run=run, **rest), batch, draws)
        choices.add(tuple(chosen))
        for function in steps.values():
            loss, figures = function(tf.constant(step))
            np.testing.assert_allclose(loss, expected, rtol=1e-4)
            np.testing.assert_allclose(figures["blocks"], [chosen.mean()] * 2, rtol=1e-6)
    assert len(choices) > 2
    assert [f.experimental_get_tracing_count() for f in steps.values()] == [1, 1]


def test_what_does_not_run_is_not_computed(unet, batch, monkeypatch):
    calls = []
    block = unet.mid.resnets[0]
    call = block.call

    def counted(x, **rest):
        out = tf.py_function(lambda y: (calls.append(1), y)[1], [call(x, **rest)], tf.float32)
        return tf.ensure_shape(out, x.shape)

    monkeypatch.setattr(block, "call", counted)
    latent, others = inputs(batch)

    @tf.function(autograph=False)
    def gradients(run):
        with tf.GradientTape() as tape:
            loss = tf.reduce_sum(unet(latent, run={block.name: run}, **others))
        return tape.gradient(loss, [block.conv1.kernel, unet.conv_in.kernel])

    own, other = gradients(tf.constant(False))
    assert not calls
    assert not np.any(own) and np.any(other)
    gradients(tf.constant(True))
    assert len(calls) == 1


def test_blocks_run_at_their_rate():
    runs = np.mean([draws_of(step).coins(50, probability=0.8, stream=3) for step in range(100)])
    assert runs == pytest.approx(0.8, abs=4 * np.sqrt(0.8 * 0.2 / 5000))


@dataclasses.dataclass(frozen=True)
class RobustJob(TinyJob):
    def build(self):
        model, objective = super().build()
        return model, Robust(objective, 0.5)


def test_replicas_choose_alike_and_stages_may_be_rematerialised(tmp_path):
    one, two = TRAINING, TRAINING.replace(rematerialize=("up.0",))
    runs = []
    for strategy, training in (("one", one), ("mirrored", two)):
        job = RobustJob(training=training)
        trainer = Trainer(job, workdir=tmp_path / strategy, strategy=shared_strategy(strategy))
        runs.append([trainer.train_step(job.batch(k), k) for k in range(2)])
    for figures, others in zip(*runs, strict=True):
        for name, value in figures.items():
            np.testing.assert_allclose(value, others[name], rtol=2e-4, err_msg=name)


def test_what_it_cannot_be_for():
    with pytest.raises(ValueError, match=r"probability is 0\.0"):
        Robust(DENOISE, 0.0)
    with pytest.raises(ValueError, match="one by one"):
        Robust(Contrastive(), 0.9)
