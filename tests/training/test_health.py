"""Losses that are not finite or explode, and what `on_nan` does about them."""

import dataclasses
import math
import time

import numpy as np
import pytest
import tensorflow as tf

from tests.training.tiny_job import TRAINING, Dense, DenseJob, FitNoise, shared_strategy
from tfsnap.training.checkpoint import Checkpoints
from tfsnap.training.health import Health
from tfsnap.training.progress import Progress
from tfsnap.training.stopping import HUNG_EXIT_CODE, Watchdog
from tfsnap.training.trainer import Trainer, TrainingError
from tfsnap.weights.store import load_tensors

SPOILED = 4


def trainer(workdir, **options):
    job = DenseJob(spoiled_step=SPOILED)
    return Trainer(job, workdir=workdir, strategy=shared_strategy("one"), **options)


def test_a_loss_is_judged_by_its_running_level():
    health = Health(growth=10.0)
    assert health.complaint(math.nan) == "is nan"
    assert all(health.complaint(1.0 + 0.1 * (k % 3)) is None for k in range(30))
    assert health.complaint(5.0) is None
    assert "is 40, 3" in health.complaint(40.0)
    assert health.complaint(-math.inf) == "is -inf"


def test_early_losses_may_fall_from_any_height():
    health = Health(growth=10.0)
    assert all(health.complaint(loss) is None for loss in (0.1, 50.0, 1.0))


def test_stop_names_step_captions_and_last_checkpoint(tmp_path):
    with pytest.raises(TrainingError) as caught:
        trainer(tmp_path).fit()
    message = str(caught.value)
    assert message.startswith(
        "the loss of step 5 is nan. Its batch: row 0 of step 4; row 1 of step 4; row 2 of step 4; "
    )
    assert message.endswith("Last checkpoint: step 3")
    assert not (tmp_path / "weights.safetensors").exists()


def test_skip_leaves_the_update_out(tmp_path, capsys):
    path = trainer(tmp_path, on_nan="skip").fit()
    assert "step 5 skipped" in capsys.readouterr().out
    tensors, _ = load_tensors(path)
    assert all(np.isfinite(tensor).all() for tensor in tensors.values())
    state, _ = load_tensors(tmp_path / "checkpoints/step-00000006.safetensors")
    assert state["optimizer/iteration"] == TRAINING.steps - 1


def test_rollback_goes_on_with_the_data_that_follows(tmp_path, capsys):
    path = trainer(tmp_path, on_nan="rollback").fit()
    assert "Back to the weights of step 3, on with the data that follows" in capsys.readouterr().out
    tensors, _ = load_tensors(path)
    assert all(np.isfinite(tensor).all() for tensor in tensors.values())
    state, _ = load_tensors(tmp_path / "checkpoints/step-00000006.safetensors")
    # Three before the checkpoint, and of the later ones none that came with the spoiled step.
    assert state["optimizer/iteration"] in (3, 4)


def test_rollback_waits_for_the_checkpoint_that_is_being_written(tmp_path, monkeypatch, capsys):
    write = Checkpoints.write

    def slow(self, step, arrays):
        time.sleep(1.0)
        write(self, step, arrays)

    monkeypatch.setattr(Checkpoints, "write", slow)
    job = DenseJob(TRAINING.replace(asynchronous_checkpoints=True), spoiled_step=SPOILED)
    Trainer(job, workdir=tmp_path, strategy=shared_strategy("one"), on_nan="rollback").fit()
    assert "Back to the weights of step 3" in capsys.readouterr().out


def test_rollback_without_a_checkpoint_stops(tmp_path):
    job = DenseJob(spoiled_step=0)
    run = Trainer(job, workdir=tmp_path, strategy=shared_strategy("one"), on_nan="rollback")
    with pytest.raises(TrainingError, match="the loss of step 1 is nan.*Last checkpoint: none"):
        run.fit()


def test_an_exploding_loss_is_found(tmp_path, monkeypatch):
    run = trainer(tmp_path)
    monkeypatch.setattr(Health, "complaint", lambda self, loss: "is 9, 900 times its running level")
    with pytest.raises(TrainingError, match="the loss of step 1 is 9, 900 times"):
        run.fit()


@dataclasses.dataclass(frozen=True)
class Steep(FitNoise):
    """The loss of step 3 is finite, and its gradient is not."""

    def __call__(self, model, batch, draws):
        loss, figures = super().__call__(model, batch, draws)
        flat = tf.cast(draws.seed[1] != TRAINING.checkpoint_every - 1, tf.float32)
        return loss + tf.sqrt(flat * tf.reduce_mean(tf.square(model(batch["x"])), axis=-1)), figures


@dataclasses.dataclass(frozen=True)
class SteepJob(DenseJob):
    def build(self):
        model = Dense()
        model(tf.zeros([1, 4]))
        return model, Steep()


def test_weights_that_a_gradient_spoiled_are_not_saved(tmp_path):
    run = Trainer(SteepJob(), workdir=tmp_path, strategy=shared_strategy("one"))
    with pytest.raises(TrainingError, match="the gradient of step 3 is not finite. Its batch: row"):
        run.fit()
    assert run.checkpoints.steps() == []


def test_a_scaled_loss_whose_gradient_overflows_is_scaled_down_where_updates_are_skipped(tmp_path):
    training = TRAINING.replace(precision="float16")
    options = {"strategy": shared_strategy("one"), "on_nan": "skip"}
    run = Trainer(DenseJob(training=training), workdir=tmp_path, **options)
    scale = run.state["optimizer/loss_scale"]
    kernel = run.model.layer.kernel.numpy()
    scale.assign(2.0**30)  # No gradient fits float16.
    for step in range(2):
        assert run.train_step(run.job.batch(step), step)["skipped"] == 1.0
    assert float(scale) == 2.0**28
    np.testing.assert_array_equal(run.model.layer.kernel, kernel)
    scale.assign(1.0)
    assert run.train_step(run.job.batch(2), 2)["skipped"] == 0.0
    assert np.abs(run.model.layer.kernel - kernel).max() > 0


def test_several_steps_of_a_call_are_named_together(tmp_path, capsys):
    together = TRAINING.replace(steps_per_call=3, log_every=3)
    job = DenseJob(spoiled_step=SPOILED, training=together)
    with pytest.raises(TrainingError, match="the loss of steps 4 to 6, their mean, is nan;"):
        Trainer(job, workdir=tmp_path / "a", strategy=shared_strategy("one")).fit()
    strategy = shared_strategy("one")
    Trainer(job, workdir=tmp_path / "b", strategy=strategy, on_nan="skip").fit()
    assert "1 of steps 4 to 6 skipped: not finite" in capsys.readouterr().out


def reports(workdir, monkeypatch, job, **options):
    """What a run tells, by step."""
    told = {}
    monkeypatch.setattr(
        Progress, "report", lambda self, step, figures: told.update({step: figures})
    )
    Trainer(job, workdir=workdir, strategy=shared_strategy("one"), **options).fit()
    return told


def test_the_loss_that_is_told_is_that_of_all_steps(tmp_path, monkeypatch):
    each, third = (
        reports(tmp_path / str(n), monkeypatch, DenseJob(training=TRAINING.replace(log_every=n)))
        for n in (1, 3)
    )
    for last in (3, 6):
        losses = [each[step]["loss"] for step in range(last - 2, last + 1)]
        assert np.ptp(losses) > 1e-3
        assert third[last]["loss"] == pytest.approx(np.mean(losses))


def test_the_learning_rate_that_is_told_is_the_one_that_was_used(tmp_path, monkeypatch):
    straight = reports(
        tmp_path / "a", monkeypatch, DenseJob(training=TRAINING.replace(log_every=1))
    )
    job = DenseJob(spoiled_step=SPOILED, training=TRAINING.replace(log_every=1))
    skipped = reports(tmp_path / "b", monkeypatch, job, on_nan="skip")
    rates = [straight[step]["learning_rate"] for step in (1, 2, 3, 4, 4, 5)]
    assert [skipped[step]["learning_rate"] for step in range(1, 7)] == rates
    assert rates[4] != straight[5]["learning_rate"]
    assert math.isfinite(skipped[4]["loss"]) and skipped[5]["skipped"] == 1.0


def test_what_is_no_step_may_take_longer_than_one(monkeypatch):
    ended = []
    monkeypatch.setattr("os._exit", ended.append)
    monkeypatch.setattr("faulthandler.dump_traceback", lambda **options: None)
    watchdog = Watchdog(0.2, "worker")
    with watchdog.patient():
        time.sleep(0.6)
    assert not ended
    time.sleep(0.6)
    watchdog.close()
    assert set(ended) == {HUNG_EXIT_CODE}
