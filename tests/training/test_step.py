"""The options of the step: each must give the plain step's update, or say why not."""

import dataclasses

import numpy as np
import pytest
import tensorflow as tf

from tests.runtime.processes import run_code
from tests.training.tiny_job import TRAINING, DenseJob, TinyJob, shared_strategy
from tfsnap.objectives.contrastive import Contrastive
from tfsnap.training.trainer import Trainer, TrainingError
from tfsnap.weights.store import addressed

STEPS = 2


def test_the_benchmark_times_a_call_however_many_steps_it_has():
    code = """
        import json
        from benchmarks.training_step import calls
        print(json.dumps([calls(8, together) for together in (1, 3, 8, 16)]))
    """
    assert run_code(code) == [1 + 8, 1 + 3, 1 + 1, 1 + 1]


def trained(workdir, strategy="one", kind=DenseJob, **training):
    """A trainer after a few steps, and the losses of these."""
    job = kind(training=TRAINING.replace(**training))
    trainer = Trainer(job, workdir=workdir, strategy=shared_strategy(strategy))
    losses = [float(trainer.train_step(job.batch(k), k)["loss"]) for k in range(STEPS)]
    return trainer, losses


@pytest.fixture(scope="module")
def plain(tmp_path_factory):
    """Runs without options, of a network that is traced quickly and of a UNet."""
    workdir = tmp_path_factory.mktemp("plain")
    return {kind: trained(workdir, kind=kind) for kind in (DenseJob, TinyJob)}


def assert_same_run(run, expected, atol):
    (trainer, losses), (other, other_losses) = run, expected
    np.testing.assert_allclose(losses, other_losses, rtol=10 * atol)
    ours, theirs = addressed(trainer.model.variables), addressed(other.model.variables)
    for name, variable in ours.items():
        np.testing.assert_allclose(variable, theirs[name], atol=atol, err_msg=name)
    for name, average in trainer.average.variables.items():
        np.testing.assert_allclose(average, other.average.variables[name], atol=atol, err_msg=name)


def test_two_replicas_give_the_update_of_one_device(plain, tmp_path):
    two = trained(tmp_path, strategy="mirrored", kind=TinyJob)
    assert two[0].strategy.num_replicas_in_sync == 2
    assert_same_run(two, plain[TinyJob], atol=2e-5)
    before = addressed(TinyJob().build()[0].variables)
    ours = addressed(two[0].model.variables)
    moved = sum(np.abs(ours[n] - before[n]).max() > 1e-3 for n in ours)
    assert moved > len(ours) / 2  # The comparison is not of networks that stood still.


@pytest.mark.parametrize(
    "options",
    [
        {"accumulate": 4},
        {"accumulate": 2, "strategy": "mirrored"},
        {"jit_compile": True, "strategy": "mirrored"},
        {"accumulate": 2, "jit_compile": True, "kind": TinyJob},
        {"rematerialize": ("down.0", "mid", "up.*"), "kind": TinyJob},
        {"rematerialize": ("down.0", "up.*"), "jit_compile": True, "kind": TinyJob},
        {"rematerialize": ("up.0",), "strategy": "mirrored", "kind": TinyJob},
    ],
    ids=str,
)
def test_options_give_the_plain_update(plain, tmp_path, options):
    assert_same_run(trained(tmp_path, **options), plain[options.get("kind", DenseJob)], atol=5e-5)


def test_replicas_agree_with_one_device_in_half_precision(tmp_path):
    one = trained(tmp_path, precision="bfloat16")
    two = trained(tmp_path, precision="bfloat16", strategy="mirrored", accumulate=2)
    # The sums of gradients are float32; only products within an example are bfloat16.
    assert_same_run(two, one, atol=1e-4)


@pytest.mark.parametrize("precision", ["bfloat16", "float16"])
def test_half_precision_trains_about_the_same(plain, tmp_path, precision):
    trainer, losses = trained(tmp_path, precision=precision, kind=TinyJob)
    np.testing.assert_allclose(losses, plain[TinyJob][1], rtol=1e-2)
    assert losses != plain[TinyJob][1]
    assert {v.dtype for v in trainer.model.variables} == {tf.float32}


def test_the_loss_scale_is_part_of_the_state_and_halves_when_a_gradient_overflows(tmp_path):
    job = DenseJob(training=TRAINING.replace(precision="float16"), spoiled_step=1)
    trainer = Trainer(job, workdir=tmp_path, strategy=shared_strategy("one"))
    scale = trainer.state["optimizer/loss_scale"]
    before = float(scale)
    trainer.train_step(job.batch(0), 0)
    weights = {name: v.numpy() for name, v in addressed(trainer.model.variables).items()}
    trainer.train_step(job.batch(1), 1)
    assert float(scale) == before / 2
    for name, variable in addressed(trainer.model.variables).items():
        np.testing.assert_array_equal(variable, weights[name], err_msg=name)


def test_several_steps_a_call_are_the_same_steps(tmp_path):
    runs = {}
    for count in (1, 3):
        training = TRAINING.replace(steps_per_call=count, log_every=3, checkpoint_every=6)
        trainer = Trainer(
            DenseJob(training=training),
            workdir=tmp_path / str(count),
            strategy=shared_strategy("one"),
        )
        trainer.fit()
        runs[count] = addressed(trainer.model.variables)
    for name, variable in runs[1].items():
        np.testing.assert_allclose(variable, runs[3][name], atol=1e-6, err_msg=name)


def test_a_run_that_stopped_between_two_calls_comes_to_its_last_step(tmp_path):
    """As `tools/run_step.py` may stop at any step."""

    def trainer(**training):
        job = DenseJob(training=TRAINING.replace(**training))
        return Trainer(job, workdir=tmp_path, strategy=shared_strategy("one"))

    straight = trainer(checkpoint_every=4)
    straight.fit()
    straight.checkpoints.path(TRAINING.steps).unlink()
    several = trainer(steps_per_call=3, log_every=3, checkpoint_every=6)
    several.fit()
    assert several.checkpoints.steps() == [4, TRAINING.steps]
    for name, value in straight.state.items():
        np.testing.assert_allclose(several.state[name], value, atol=1e-6, err_msg=name)


def test_steps_a_call_must_divide_the_other_numbers():
    with pytest.raises(ValueError, match=r"log_every is 2; it must be a multiple of steps_per_ca"):
        TRAINING.replace(steps_per_call=3)


@dataclasses.dataclass(frozen=True)
class ContrastiveJob(DenseJob):
    def build(self):
        model, _ = super().build()
        return model, Contrastive()


def test_a_contrastive_batch_cannot_be_taken_in_parts(tmp_path):
    job = ContrastiveJob(training=TRAINING.replace(accumulate=2))
    with pytest.raises(TrainingError, match=r"training\.accumulate is 2, but this objective"):
        Trainer(job, workdir=tmp_path, strategy=shared_strategy("one"))


def test_a_contrastive_batch_cannot_be_compiled_for_several_replicas(tmp_path):
    job = ContrastiveJob(training=TRAINING.replace(jit_compile=True))
    with pytest.raises(
        TrainingError, match=r"jit_compile is True, but tiny compares .* 2 replicas"
    ):
        Trainer(job, workdir=tmp_path, strategy=shared_strategy("mirrored"))


def test_micro_batches_must_divide_the_batch(tmp_path):
    job = DenseJob(training=TRAINING.replace(accumulate=3))
    with pytest.raises(TrainingError, match=r"batch_size is 8; .* a multiple of 3"):
        Trainer(job, workdir=tmp_path, strategy=shared_strategy("one"))
