import dataclasses
import tracemalloc

import numpy as np
import pytest
import tensorflow as tf

from tests.full_disk import full_disk
from tests.training.tiny_job import TRAINING, DenseJob, TinyJob, shared_strategy
from tfsnap.data.shards import ShardedTables, ShardWriter, TableSpec
from tfsnap.data.source import BatchSource
from tfsnap.data.tables import stored_tables
from tfsnap.training import checkpoint
from tfsnap.training.checkpoint import Checkpoints
from tfsnap.training.strategy import iterate
from tfsnap.training.trainer import Trainer, TrainingError
from tfsnap.weights.archive import load_trained
from tfsnap.weights.store import (
    WeightFileError,
    WeightMismatchError,
    addressed,
    load_tensors,
    save_tensors,
)


def test_rerun_continues_to_the_same_weights(tmp_path):
    straight = Trainer(DenseJob(), workdir=tmp_path / "a", strategy=shared_strategy("one")).fit()

    class Killed(Exception):
        pass

    trainer = Trainer(DenseJob(), workdir=tmp_path / "b", strategy=shared_strategy("one"))
    step = trainer._step

    def killed_at_four(batch, index):
        if int(index) == 4:  # After the checkpoint of step 3.
            raise Killed
        return step(batch, index)

    trainer._step = killed_at_four
    with pytest.raises(Killed):
        trainer.fit()
    resumed = Trainer(DenseJob(), workdir=tmp_path / "b", strategy=shared_strategy("one"))
    assert resumed.checkpoints.steps() == [3]
    again = resumed.fit()
    a, b = load_tensors(straight)[0], load_tensors(again)[0]
    assert a.keys() == b.keys()
    for name in a:
        np.testing.assert_array_equal(a[name], b[name], err_msg=name)


def test_a_finished_run_goes_on_to_more_steps(tmp_path):
    constant = TRAINING.replace(optimizer=TRAINING.optimizer.replace(final_fraction=1.0))
    longer = DenseJob(training=constant.replace(steps=2 * constant.steps))
    straight = Trainer(longer, workdir=tmp_path / "a", strategy=shared_strategy("one")).fit()
    for job in (DenseJob(training=constant), longer):
        again = Trainer(job, workdir=tmp_path / "b", strategy=shared_strategy("one")).fit()
    found = load_tensors(again)[0]
    for name, value in load_tensors(straight)[0].items():
        np.testing.assert_array_equal(found[name], value, err_msg=name)


class Broken(DenseJob):
    """No pictures can be drawn of it."""

    def previews(self, model):
        raise ValueError("no pictures")


def test_weights_are_there_whatever_becomes_of_the_pictures(tmp_path):
    with pytest.raises(ValueError, match="no pictures"):
        Trainer(Broken(), workdir=tmp_path, strategy=shared_strategy("one")).fit()
    straight = Trainer(DenseJob(), workdir=tmp_path / "a", strategy=shared_strategy("one")).fit()
    assert (tmp_path / "weights.safetensors").read_bytes() == straight.read_bytes()


def test_a_run_that_became_longer_does_not_end_with_the_weights_of_the_shorter(
    tmp_path, monkeypatch
):
    Trainer(DenseJob(), workdir=tmp_path, strategy=shared_strategy("one")).fit()
    longer = DenseJob(training=TRAINING.replace(steps=2 * TRAINING.steps))

    def killed(self):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(Trainer, "_save_weights", killed)
        Trainer(longer, workdir=tmp_path, strategy=shared_strategy("one")).fit()
    trainer = Trainer(longer, workdir=tmp_path, strategy=shared_strategy("one"))
    found, _ = load_tensors(trainer.fit())
    for name, average in trainer.average.variables.items():
        np.testing.assert_array_equal(found[name], average, err_msg=name)


def test_saved_weights_are_the_average_and_describe_the_network(tmp_path):
    trainer = Trainer(TinyJob(), workdir=tmp_path, strategy=shared_strategy("one"))
    for average in trainer.average.variables.values():
        average.assign_add(tf.ones_like(average))
    trainer.checkpoints.save(TRAINING.steps)  # All steps are done, the weights are missing.
    loaded = load_trained(trainer.fit(), "unet")
    assert loaded.about == {"prediction": "v"}
    weights = addressed(trainer.model.variables)
    differs = 0
    for name, variable in addressed(loaded.model.variables).items():
        np.testing.assert_array_equal(variable, trainer.average.variables[name])
        differs += not np.array_equal(variable, weights[name])
    assert differs > 10


def test_fit_learns(tmp_path):
    job = DenseJob(training=TRAINING.replace(steps=60, checkpoint_every=60))
    batch = job.batch(0)
    trainer = Trainer(job, workdir=tmp_path, strategy=shared_strategy("one"))
    losses = [float(trainer.train_step(batch, 0)["loss"]) for _ in range(40)]
    assert losses[-1] < 0.6 * losses[0]


def test_only_the_newest_checkpoints_stay_and_damaged_ones_are_skipped(tmp_path, capsys):
    state = {"model/a": tf.Variable([1.0, 2.0])}
    checkpoints = Checkpoints(tmp_path, state, keep=2)
    for step in (1, 2, 3):
        state["model/a"].assign([float(step), 0.0])
        checkpoints.save(step)
    assert checkpoints.steps() == [2, 3]
    newest = tmp_path / "step-00000003.safetensors"
    newest.write_bytes(newest.read_bytes()[:-3])
    assert checkpoints.restore() == 2
    np.testing.assert_array_equal(state["model/a"], [2.0, 0.0])
    assert "damaged" in capsys.readouterr().out


def test_a_checkpoint_whose_values_changed_is_skipped(tmp_path, capsys):
    state = {"model/a": tf.Variable([1.0, 2.0])}
    checkpoints = Checkpoints(tmp_path, state, keep=2)
    checkpoints.save(1)
    checkpoints.save(2)
    newest = tmp_path / "step-00000002.safetensors"
    data = bytearray(newest.read_bytes())
    data[-1] ^= 1  # Still a safetensors file of the same size.
    newest.write_bytes(data)
    assert checkpoints.restore() == 1
    assert "do not match its checksum" in capsys.readouterr().out


def test_some_checkpoints_stay_for_good(tmp_path):
    checkpoints = Checkpoints(tmp_path, {"a": tf.Variable(0.0)}, keep=1, keep_every=4)
    for step in range(1, 10):
        checkpoints.save(step)
    assert checkpoints.steps() == [4, 8, 9]


def test_what_a_killed_process_left_unfinished_is_removed(tmp_path):
    unfinished = [".tmp7zZeYP", ".step-00000004.safetensors.ab12"]
    for name in (*unfinished, "notes.txt"):
        (tmp_path / name).write_bytes(bytes(10))
    Checkpoints(tmp_path, {"a": tf.Variable(0.0)}, keep=1).save(5)
    left = sorted(path.name for path in tmp_path.iterdir())
    assert left == ["notes.txt", "step-00000005.safetensors"]


def test_an_asynchronous_checkpoint_holds_the_values_of_its_step(tmp_path):
    state = {"a": tf.Variable(np.zeros(1_000_000, np.float32))}
    checkpoints = Checkpoints(tmp_path, state, keep=9, asynchronous=True)
    for step in range(1, 4):
        state["a"].assign(np.full(1_000_000, step, np.float32))
        checkpoints.save(step)
        state["a"].assign_add(np.full(1_000_000, 0.5, np.float32))
    checkpoints.wait()
    for step in range(1, 4):
        values = load_tensors(checkpoints.path(step))[0]["a"]
        assert values.min() == values.max() == step


def test_a_checkpoint_needs_memory_for_one_tensor(tmp_path):
    values = [np.full(1_000_000, number, np.float32) for number in range(20)]
    state = {f"model/{number}": tf.Variable(value) for number, value in enumerate(values)}
    checkpoints = Checkpoints(tmp_path, state, keep=1)
    tracemalloc.start()
    checkpoints.save(1)
    for variable in state.values():
        variable.assign(tf.zeros_like(variable))
    assert checkpoints.restore() == 1
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    for number, value in enumerate(values):
        np.testing.assert_array_equal(state[f"model/{number}"], value)
    assert peak < 4 * values[0].nbytes


def test_a_full_disk_is_one_clear_error_and_loses_nothing(tmp_path, monkeypatch):
    def full(path, *args):
        if path.name == "step-00000006.safetensors":
            with full_disk():
                save_tensors(path, *args)
        save_tensors(path, *args)

    monkeypatch.setattr(checkpoint, "save_tensors", full)
    trainer = Trainer(DenseJob(), workdir=tmp_path, strategy=shared_strategy("one"))
    with pytest.raises(
        TrainingError, match=r"cannot write a checkpoint to .*: File too large\. Ch"
    ):
        trainer.fit()
    assert trainer.checkpoints.steps() == [3]
    assert trainer.checkpoints.restore() == 3


def test_a_run_starts_from_given_weights(tmp_path):
    first = Trainer(DenseJob(), workdir=tmp_path / "first", strategy=shared_strategy("one"))
    weights = first.fit()
    optimizer = TRAINING.optimizer.replace(learning_rate=1e-30)
    tuning = TRAINING.replace(init=str(weights), optimizer=optimizer, seed=1)
    options = {"workdir": tmp_path / "second", "strategy": shared_strategy("one")}
    found = load_tensors(Trainer(DenseJob(training=tuning), **options).fit())[0]
    for name, value in load_tensors(weights)[0].items():
        np.testing.assert_array_equal(found[name], value, err_msg=name)
    weights.unlink()  # Its own checkpoint goes before what it once started from.
    assert Trainer(DenseJob(training=tuning), **options).restore() == TRAINING.steps


def test_weights_of_another_network_are_no_start(tmp_path):
    save_tensors(tmp_path / "other", {"layer.kernel": np.zeros([2, 2], np.float32)}, {})
    for name, error in {"other": WeightMismatchError, "nowhere": WeightFileError}.items():
        job = DenseJob(training=TRAINING.replace(init=str(tmp_path / name)))
        with pytest.raises(error, match=name):
            Trainer(job, workdir=tmp_path / "run", strategy=shared_strategy("one")).fit()
    assert not (tmp_path / "run" / "checkpoints").exists()


def test_a_checkpoint_of_another_network_is_refused(tmp_path, capsys):
    Checkpoints(tmp_path, {"model/a": tf.Variable([1.0])}, keep=1).save(2)
    other = {"model/a": tf.Variable([5.0, 5.0])}
    checkpoints = Checkpoints(tmp_path, other, keep=1)
    with pytest.raises(WeightMismatchError, match="another network"):
        checkpoints.restore()
    np.testing.assert_array_equal(other["model/a"], [5.0, 5.0])
    checkpoints.save(1)  # Beside one that fits it is passed over, and stays.
    assert checkpoints.restore() == 1
    assert "Skipping a checkpoint of another network" in capsys.readouterr().out
    assert checkpoints.steps() == [1, 2]


def test_a_damaged_checkpoint_takes_no_place_of_a_good_one(tmp_path):
    checkpoints = Checkpoints(tmp_path, {"a": tf.Variable(0.0)}, keep=1)
    checkpoints.path(9).write_bytes(b"cut off")
    assert checkpoints.restore() == 0
    for step in (1, 2):
        checkpoints.save(step)
    assert checkpoints.steps() == [2, 9]
    assert checkpoints.restore() == 2


@dataclasses.dataclass(frozen=True)
class StoredJob(DenseJob):
    """Reads its batches from a table on disk."""

    folder: str = ""

    def batches(self, start_step, *, part=(0, 1)):
        size, seed = self.training.batch_size, self.training.seed
        tables = stored_tables(ShardedTables(self.folder))
        source = BatchSource(tables=tables, index=np.arange(40), batch_size=size, seed=seed)
        return source.batches(start_step, part=part)


@pytest.mark.parametrize("steps_per_call", [1, 3])
def test_a_damaged_shard_is_one_clear_error(tmp_path, steps_per_call):
    table = {"x": np.random.default_rng(0).standard_normal([40, 4]).astype(np.float32)}
    specs = {"x": TableSpec("float32", (4,))}
    writer = ShardWriter(tmp_path / "x", tables=specs, rows=40, rows_per_shard=40, about={})
    writer.write(0, table)
    writer.finish()
    (shard,) = (tmp_path / "x").glob("*.array_record")
    shard.write_bytes(shard.read_bytes()[:-30])
    training = TRAINING.replace(steps_per_call=steps_per_call, log_every=3)
    job = StoredJob(training=training, folder=str(tmp_path / "x"))
    trainer = Trainer(job, workdir=tmp_path / "run", strategy=shared_strategy("one"))
    with pytest.raises(TrainingError, match="the data of step 1: .*array_record cannot be read"):
        trainer.fit()


def test_no_tuner_of_data_sets_holds_up_the_end_of_a_run():
    batches = iterate(shared_strategy("one"), lambda worker, workers: tf.data.Dataset.range(4))
    assert [int(batch) for batch in batches] == [0, 1, 2, 3]
    assert batches._dataset.options().autotune.enabled is False


def test_batch_must_split_over_replicas(tmp_path):
    job = DenseJob(training=TRAINING.replace(batch_size=3))
    with pytest.raises(TrainingError, match="multiple of 2"):
        Trainer(job, workdir=tmp_path, strategy=shared_strategy("mirrored"))
