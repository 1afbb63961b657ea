"""The portable step against the trainer whose step it is. JAX runs in processes of its own."""

import dataclasses
import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest
import tensorflow as tf

from tests.training.tiny_job import TRAINING, TinyJob
from tfsnap.data.source import BatchSource
from tfsnap.objectives.denoise import Denoise
from tfsnap.training.portable import compile_step
from tfsnap.training.portable_format import (
    TABLES,
    Manifest,
    load_state,
    load_tables,
    save_tables,
)
from tfsnap.training.portable_weights import UNTRAINED, save_untrained
from tfsnap.training.strategy import make_strategy
from tfsnap.training.trainer import Trainer
from tfsnap.weights.archive import load_trained
from tfsnap.weights.store import load_tensors, save_tensors

ROOT = Path(__file__).parents[2]
FINAL = f"checkpoints/step-{TRAINING.steps:08d}.safetensors"


@dataclasses.dataclass(frozen=True)
class TinyTableJob(TinyJob):
    """Draws its batches from tables, as the real jobs do."""

    def source(self):
        rng = np.random.default_rng(0)
        return BatchSource(
            tables={
                "moments": rng.standard_normal([20, 4, 4, 8]).astype(np.float16),
                "tokens": rng.integers(0, 32, [20, 3, 4]).astype(np.int32),
            },
            index=np.arange(20).repeat(2)[3:],
            batch_size=self.training.batch_size,
            seed=5,
            variants=("tokens",),
            null_rows={"tokens": np.zeros([4], np.int32)},
            dropout=0.2,
        )

    def batches(self, start_step, *, part=(0, 1)):
        return self.source().batches(start_step, part=part)


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A run of the trainer, with checkpoints of steps 3 and 6, and the loss of each step."""
    workdir = tmp_path_factory.mktemp("trained")
    trainer = Trainer(TinyTableJob(), workdir=workdir, strategy=make_strategy("one"))
    step, losses = trainer._step, []

    def recorded(batch, number):
        figures = step(batch, number)
        losses.append(float(figures["loss"]))
        return figures

    trainer._step = recorded
    trainer.fit()
    return workdir, losses


@pytest.fixture(scope="module")
def step(tmp_path_factory):
    folder = tmp_path_factory.mktemp("step")
    compile_step(TinyTableJob(), output=folder, workdir=folder / "none")
    return folder


@pytest.fixture(scope="module")
def run_step(tmp_path_factory):
    """Calls the program; what JAX compiled once, it finds again."""
    cache = tmp_path_factory.mktemp("jax")

    environment = {
        **os.environ,
        "JAX_PLATFORMS": "cpu",
        "XLA_FLAGS": "--xla_backend_optimization_level=0",  # Compiled quickly, run a few times.
        "JAX_COMPILATION_CACHE_DIR": str(cache),
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
    }

    def start(*arguments):
        return subprocess.Popen(
            [sys.executable, "tools/run_step.py", *map(str, arguments)],
            cwd=ROOT,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def run(*arguments):
        with start(*arguments) as running:
            out, errors = running.communicate()
        return subprocess.CompletedProcess(running.args, running.returncode, out, errors)

    run.start = start
    return run


def assert_same_state(path, expected_path):
    found, expected = load_tensors(path)[0], load_tensors(expected_path)[0]
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        assert found[name].dtype == value.dtype, name
        np.testing.assert_allclose(found[name], value, atol=1e-4, err_msg=name)


def figures(workdir):
    return [json.loads(line) for line in (workdir / "figures.jsonl").read_text().splitlines()]


def test_the_runner_takes_the_trainers_steps(trained, step, run_step, tmp_path):
    reference, losses = trained
    done = run_step(step, f"--workdir={tmp_path}", "--steps_per_call=2", "--checkpoint_every=0")
    assert done.returncode == 0, done.stderr
    lines = figures(tmp_path)
    assert [line["step"] for line in lines] == [2, 4, 6]
    means = np.reshape(losses, [3, 2]).mean(axis=1)
    np.testing.assert_allclose([line["loss"] for line in lines], means, rtol=1e-4)
    assert means[0] != pytest.approx(means[1], rel=1e-3)
    assert [path.name for path in (tmp_path / "checkpoints").iterdir()] == [Path(FINAL).name]
    assert_same_state(tmp_path / FINAL, reference / FINAL)
    weights, expected = (
        load_trained(w / "weights.safetensors", "unet") for w in (tmp_path, reference)
    )
    assert weights.about == expected.about
    for one, other in zip(weights.model.variables, expected.model.variables, strict=True):
        np.testing.assert_allclose(one, other, atol=1e-4, err_msg=one.name)


def test_checkpoints_go_back_and_forth(trained, step, run_step, tmp_path):
    reference, _ = trained
    middle = "checkpoints/step-00000003.safetensors"
    (tmp_path / "checkpoints").mkdir()
    shutil.copy(reference / middle, tmp_path / middle)
    options = ["--steps_per_call=2", "--seconds=0", "--export_dtype=float16"]
    done = run_step(step, f"--workdir={tmp_path}", *options)
    assert done.returncode == 0, done.stderr
    assert "Stopped at step 4 of 6" in done.stdout
    assert not (tmp_path / "weights.safetensors").exists()
    tensors, about = load_tensors(tmp_path / "ema.safetensors")
    assert {tensor.dtype for tensor in tensors.values()} == {np.dtype(np.float16)}
    assert about["step"] == 4
    assert about["network"] == "unet"
    Trainer(TinyTableJob(), workdir=tmp_path, strategy=make_strategy("one")).fit()
    assert_same_state(tmp_path / FINAL, reference / FINAL)


def test_averages_alone_finish_a_run(trained, step, run_step, tmp_path):
    reference, _ = trained
    tensors, _ = load_tensors(reference / "weights.safetensors")
    half = {name: tensor.astype(np.float16) for name, tensor in tensors.items()}
    save_tensors(tmp_path / "ema.safetensors", half, {"step": TRAINING.steps})
    done = run_step(step, f"--workdir={tmp_path}", f"--adopt={tmp_path / 'ema.safetensors'}")
    assert done.returncode == 0, done.stderr
    Trainer(TinyTableJob(), workdir=tmp_path, strategy=make_strategy("one")).fit()
    finished, about = load_tensors(tmp_path / "weights.safetensors")
    assert about["network"] == "unet"
    for name, tensor in half.items():
        np.testing.assert_array_equal(finished[name], tensor.astype(np.float32), err_msg=name)


def test_a_step_starts_from_weights_that_are_newer(trained, step, run_step, tmp_path):
    given = trained[0] / "weights.safetensors"
    options = (f"--workdir={tmp_path / 'run'}", "--steps=0", "--export_dtype=float32")
    done = run_step(step, f"--init={given}", *options)
    assert done.returncode == 0, done.stderr
    found, expected = (load_tensors(p)[0] for p in (tmp_path / "run/ema.safetensors", given))
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        np.testing.assert_array_equal(found[name], value, err_msg=name)

    del expected["conv_out.bias"]
    save_tensors(tmp_path / "less.safetensors", expected)
    less = tmp_path / "less.safetensors"
    done = run_step(step, f"--init={less}", f"--workdir={tmp_path / 'other'}")
    assert done.returncode == 1
    assert f"{less} lacks conv_out.bias and 0 more weights" in done.stderr.splitlines()[-1]


def test_untrained_weights_stand_for_a_steps_result(step, trained, tmp_path):
    folder = tmp_path / "step"
    shutil.copytree(step, folder)
    save_untrained(folder)
    weights, about = load_tensors(folder / UNTRAINED)
    result, result_about = load_tensors(trained[0] / "weights.safetensors")
    assert about == result_about and weights.keys() == result.keys()
    state = load_state(folder, Manifest.load(folder))
    for name, value in weights.items():
        np.testing.assert_array_equal(value, state[f"model/{name}"])
    assert any(not np.array_equal(value, result[name]) for name, value in weights.items())


def test_a_step_reads_networks_that_are_newer(trained, step, run_step, tmp_path):
    state = load_state(step, Manifest.load(step))
    text = {n.partition("/")[2]: v for n, v in state.items() if n.startswith("frozen/text.")}
    for name, factor in {"same": 1.0, "broken": np.nan}.items():
        path = tmp_path / f"{name}.safetensors"
        changed = {key: factor * value for key, value in text.items()}
        save_tensors(path, {**changed, "image.patches": np.zeros(3, np.float32)})
    same, broken = (f"--frozen={tmp_path / name}.safetensors" for name in ("same", "broken"))
    done = run_step(step, same, f"--workdir={tmp_path / 'run'}", "--steps=2")
    assert done.returncode == 0, done.stderr
    (line,) = figures(tmp_path / "run")
    assert line["loss"] == pytest.approx(np.mean(trained[1][:2]), rel=1e-4)
    done = run_step(step, broken, f"--workdir={tmp_path / 'spoiled'}", "--steps=2")
    assert done.returncode == 1
    assert "the loss of step 1 is not finite" in done.stderr  # So they were read.

    foreign = trained[0] / "weights.safetensors"  # The UNet, which is trained and not only read.
    done = run_step(step, f"--frozen={foreign}", f"--workdir={tmp_path / 'other'}")
    assert done.returncode == 1
    assert f"weights of {foreign}; it reads" in done.stderr.splitlines()[-1]


def test_a_loss_that_is_not_finite_stops_the_run(step, run_step, tmp_path):
    spoiled = tmp_path / "step"
    shutil.copytree(step, spoiled)
    tensors, about = load_tensors(spoiled / TABLES)
    tensors["moments"][:] = np.nan
    save_tensors(spoiled / TABLES, tensors, about)
    done = run_step(spoiled, f"--workdir={tmp_path / 'run'}", "--steps_per_call=2")
    assert done.returncode == 1
    assert "run_step: the loss of step 1 is not finite" in done.stderr
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "run" / "checkpoints").exists()


def edited(step, folder, **values):
    """A copy of a step with other numbers in its manifest."""
    shutil.copytree(step, folder)
    dataclasses.replace(Manifest.load(step), **values).save(folder)
    return folder


@dataclasses.dataclass(frozen=True)
class Steep:
    """Its loss is finite, and its gradient is not."""

    objective: Denoise
    separable: ClassVar[bool] = True

    def __call__(self, model, batch, draws):
        loss, figures = self.objective(model, batch, draws)
        return loss + tf.sqrt(0.0 * tf.reduce_sum(model.trainable_variables[0])), figures


class SteepJob(TinyTableJob):
    def build(self):
        model, objective = super().build()
        return model, Steep(objective)


def test_weights_that_a_gradient_spoiled_are_not_saved(run_step, tmp_path):
    compile_step(SteepJob(), output=tmp_path / "step", workdir=tmp_path / "none")
    done = run_step(tmp_path / "step", f"--workdir={tmp_path / 'run'}", "--steps=1")
    assert done.returncode == 1
    told = done.stderr.splitlines()[-1]
    assert told.startswith("run_step: the gradient_norm of step 1 is not finite")
    assert not (tmp_path / "run" / "checkpoints").exists()


def test_some_checkpoints_stay_for_good(step, run_step, tmp_path):
    kept = edited(step, tmp_path / "kept", checkpoint_every=1, keep_checkpoints=1, keep_every=2)
    assert run_step(kept, f"--workdir={tmp_path}", "--steps=5").returncode == 0
    stay = sorted(path.stem for path in (tmp_path / "checkpoints").iterdir())
    assert stay == ["step-00000002", "step-00000004", "step-00000005"]


def test_ctrl_c_ends_a_run_after_a_checkpoint(step, run_step, tmp_path):
    endless = edited(step, tmp_path / "endless", steps=10**7, checkpoint_every=10**7)
    with run_step.start(endless, f"--workdir={tmp_path}") as running:
        assert "step 2/" in running.stdout.readline()
        running.send_signal(signal.SIGINT)
        told, errors = running.communicate()
    assert running.returncode == 0, errors
    assert "Stopped at step" in told
    assert len(list((tmp_path / "checkpoints").iterdir())) == 1


@pytest.mark.parametrize(
    "argument", ["--steps=-1", "--seconds=-1", "--steps_per_call=0", "--checkpoint_every=-5"]
)
def test_numbers_that_make_no_sense_are_one_clear_line(step, run_step, tmp_path, argument):
    done = run_step(step, f"--workdir={tmp_path / 'run'}", "--seconds=0", argument)
    assert done.returncode == 2
    name, value = argument.split("=")
    assert f"argument {name}: it is {value}; it must be at least" in done.stderr.splitlines()[-1]
    assert not (tmp_path / "run").exists()


def test_steps_share_the_data_of_a_folder(trained, step, run_step, tmp_path):
    other, data, run = (tmp_path / name for name in ("step", "data", "run"))
    compile_step(TinyTableJob(), output=other, data=data, workdir=tmp_path / "none")
    assert not (other / TABLES).exists()
    done = run_step(other, f"--data={data}", f"--workdir={run}", "--steps=2", "--steps_per_call=2")
    assert done.returncode == 0, done.stderr
    (line,) = figures(run)
    assert line["loss"] == pytest.approx(np.mean(trained[1][:2]), rel=1e-4)
    done = run_step(other, f"--workdir={run}")
    assert done.returncode == 1
    assert str(other / TABLES) in done.stderr.splitlines()[-1]

    tables, index = load_tables(data)
    save_tables(data, {**tables, "moments": tables["moments"][:, :2]}, index)
    done = run_step(step, f"--data={data}", f"--workdir={run}")
    assert done.returncode == 1
    assert f"{data} holds moments float16 [20, 2, 4, 8]" in done.stderr
    assert "compiled for moments float16 [20, 4, 4, 8]" in done.stderr
    assert "Traceback" not in done.stderr


def test_what_says_how_to_train_is_refused_where_nothing_is_trained(step, run_step, tmp_path):
    adopt = ["--adopt=ema.safetensors", f"--workdir={tmp_path / 'run'}"]
    done = run_step(step, *adopt, "--init=a", "--steps=3", "--seconds=inf")
    assert (done.returncode, done.stderr) == (
        1,
        "run_step: --init and --steps say nothing about --adopt, which does not train: leave them "
        "out\n",
    )
    assert not (tmp_path / "run").exists()


def test_a_folder_without_a_step_is_one_clear_line(run_step, tmp_path):
    done = run_step(tmp_path, f"--workdir={tmp_path}")
    assert done.returncode == 1
    assert done.stderr.startswith(f"run_step: {tmp_path} holds no training step")
    assert len(done.stderr.splitlines()) == 1


def test_a_workdir_that_cannot_be_written_is_one_clear_line(step, run_step, tmp_path):
    (tmp_path / "file").touch()
    done = run_step(step, f"--workdir={tmp_path / 'file'}")
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1].startswith("run_step: ")
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("precision", ["bfloat16", "float16"])
def test_half_precision_computes_about_the_same(trained, step, run_step, tmp_path, precision):
    job, folder = (
        TinyTableJob(TRAINING.replace(precision=precision, keep_every=3)),
        tmp_path / "step",
    )
    half = compile_step(job, output=folder, workdir=tmp_path / "none")
    assert half.keep_every == 3
    scale = {"optimizer/loss_scale", "optimizer/finite_steps"}
    weights = {argument for argument in half.arguments if argument.name not in scale}
    assert weights == set(Manifest.load(step).arguments)  # They stay float32.
    assert (len(weights) < len(half.arguments)) == (precision == "float16")
    done = run_step(folder, f"--workdir={tmp_path}", "--steps=2")
    assert done.returncode == 0, done.stderr
    (line,) = figures(tmp_path)
    assert line["loss"] == pytest.approx(np.mean(trained[1][:2]), rel=1e-2)
    assert line["loss"] != pytest.approx(np.mean(trained[1][:2]), rel=1e-7)


def test_the_state_travels_light_and_arrives_whole(step):
    manifest, stored = Manifest.load(step), load_tensors(step / "state.safetensors")[0]
    assert not any(name.startswith(("ema/", "optimizer/")) for name in stored)
    trainer = Trainer(TinyTableJob(), workdir=step / "none", strategy=make_strategy("one"))
    state = load_state(step, manifest)
    for name, variable in trainer.state.items():
        np.testing.assert_array_equal(state[name], variable, err_msg=name)
    frozen = [name for name in state if name.startswith("frozen/")]
    assert "frozen/text.layers.0.norm1.gamma" in frozen
    assert manifest.figures == ("gradient_norm", "loss", "mse")


def test_tables_come_back_as_they_were(tmp_path):
    rng = np.random.default_rng(0)
    tables = {
        "image": rng.integers(0, 256, [5, 8, 8, 3], dtype=np.uint8),
        "tokens": rng.integers(0, 49408, [5, 2, 4]).astype(np.int32),
        "moments": rng.standard_normal([5, 2, 2, 8]).astype(np.float16),
    }
    save_tables(tmp_path, tables, np.array([0, 4, 4]))
    found, index = load_tables(tmp_path)
    np.testing.assert_array_equal(index, [0, 4, 4])
    assert found.keys() == tables.keys()
    for name, table in tables.items():
        assert found[name].dtype == table.dtype
        np.testing.assert_array_equal(found[name], table)
