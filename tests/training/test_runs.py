"""A workdir remembers what it was started with."""

import json

import numpy as np
import pytest

from tests.training.latent_job import job_of
from tests.training.tiny_job import UNET
from tfsnap.evolve.config import MAY_CHANGE, EvolveConfig
from tfsnap.lock import LOCK
from tfsnap.models.latent_diffusion import Distilled
from tfsnap.models.unet import build_unet
from tfsnap.training.checkpoint import CHECKPOINTS, CheckpointFolder
from tfsnap.training.jobs import AutoencoderJob, UNetJob
from tfsnap.training.jobs.distill import DistillConfig
from tfsnap.training.jobs.read_networks import require_same_networks
from tfsnap.training.jobs.runs import (
    is_finished,
    load_finished,
    load_job,
    load_unet_job,
    require_same_config,
    save_config,
)
from tfsnap.training.lora import LoraConfig, LoraUNet
from tfsnap.training.trainer import WEIGHTS, TrainingError
from tfsnap.weights.archive import describe
from tfsnap.weights.store import WeightFileError, save_weights

LCM = DistillConfig(consistency=True, teacher_steps=50, cfg_probability=0.0, gamma=0.0)


def begin(workdir, job):
    """What a run leaves with its first checkpoint."""
    save_config(workdir, job)
    CheckpointFolder(workdir / CHECKPOINTS, keep=1).write(1, {"a": np.zeros(1)})


def test_a_workdir_keeps_its_config(tmp_path):
    begin(tmp_path, UNetJob(dropout=0.25))
    save_config(tmp_path, UNetJob(dropout=0.25))
    assert load_unet_job(tmp_path) == UNetJob(dropout=0.25)
    with pytest.raises(TrainingError, match=r"dropout was 0\.25, is 0\.5"):
        save_config(tmp_path, UNetJob(dropout=0.5))
    assert load_job(tmp_path).dropout == 0.25


def test_a_run_that_is_not_finished_is_told_as_such(tmp_path):
    begin(tmp_path, UNetJob())
    with pytest.raises(WeightFileError, match="is not finished, it has no weights.safetensors"):
        load_finished(tmp_path)


def test_a_run_that_became_longer_is_not_finished(networks, tmp_path):
    job = job_of(networks)
    job = job.replace(training=job.training.replace(steps=1))
    begin(tmp_path, job)
    unet = build_unet(job.model)
    save_weights(tmp_path / WEIGHTS, unet.variables, metadata=job.describe(unet))
    assert is_finished(tmp_path)
    load_finished(tmp_path)
    save_config(tmp_path, job.replace(training=job.training.replace(steps=9)))
    assert not is_finished(tmp_path)
    with pytest.raises(WeightFileError, match="says 9 steps and its newest .* of step 1"):
        load_finished(tmp_path)


def test_weights_that_predict_something_else_than_the_config_are_refused(networks, tmp_path):
    job = job_of(networks, prediction="v")
    unet = build_unet(job.model)
    save_weights(tmp_path / WEIGHTS, unet.variables, metadata=job.describe(unet))
    (tmp_path / "config.json").write_text(
        json.dumps({"part": "unet", **job.replace(prediction="epsilon").to_dict()})
    )
    with pytest.raises(WeightFileError, match='prediction was "v", is "epsilon"'):
        load_finished(tmp_path)


ELSEWHERE = "runs/a/weights.safetensors"


@pytest.mark.parametrize(
    ("field", "job"),
    [
        ("autoencoder", UNetJob(autoencoder=ELSEWHERE)),
        ("clip", UNetJob(clip=ELSEWHERE)),
        ("lora.base", UNetJob(lora=LoraConfig(rank=2, base=ELSEWHERE))),
    ],
)
def test_a_path_that_leads_nowhere_from_here_is_told_with_the_folder(
    tmp_path, monkeypatch, field, job
):
    """As of a run that was trained from the repository's root."""
    monkeypatch.chdir(tmp_path)
    save_config(tmp_path / "run", job)
    (tmp_path / "run" / WEIGHTS).touch()
    told = rf"run/config.json says that {field} is {ELSEWHERE}.* none in {tmp_path}: .* has runs/"
    with pytest.raises(WeightFileError, match=told):
        load_finished("run")


@pytest.mark.parametrize("whose", ["its own", "its base's"])
def test_a_lora_is_drawn_as_it_was_distilled_to_be(networks, tmp_path, whose):
    distilled = {"distilled": {"steps": 4, "guidance": 3.0, "sampler": "lcm"}}
    of_base, of_lora = ({}, distilled) if whose == "its own" else (distilled, {})
    base, lora = build_unet(UNET), LoraConfig(rank=2, base=str(tmp_path / "base"))
    save_weights(lora.base, base.variables, metadata=describe(base, **of_base))
    save_config(tmp_path, job_of(networks, lora=lora))
    adapted = LoraUNet(base, lora)
    save_weights(tmp_path / WEIGHTS, adapted.variables, metadata={**adapted.about(), **of_lora})
    assert load_finished(tmp_path).distilled == Distilled(4, 3.0, "lcm")


def test_fields_that_a_run_did_not_know_have_their_default(tmp_path):
    begin(tmp_path, UNetJob())
    path = tmp_path / "config.json"
    values = json.loads(path.read_text())
    del values["training"]["rematerialize"], values["latents"]
    path.write_text(json.dumps(values))
    save_config(tmp_path, UNetJob())
    with pytest.raises(TrainingError, match=r'latents was "", is "cache"'):
        save_config(tmp_path, UNetJob(latents="cache"))


def test_a_run_that_never_began_is_mended(tmp_path):
    save_config(tmp_path, UNetJob(autoencoder="runs/demo/autoencodr/weights.safetensors"))
    mended = UNetJob(autoencoder="runs/demo/autoencoder/weights.safetensors")
    save_config(tmp_path, mended)
    assert load_job(tmp_path) == mended
    (tmp_path / "weights.safetensors").touch()
    with pytest.raises(TrainingError, match="was started with another config: autoencoder was"):
        save_config(tmp_path, UNetJob())


def test_a_search_that_never_began_is_mended_and_one_that_did_is_kept(tmp_path):
    (tmp_path / LOCK).touch()  # Of a program that was killed.
    require_same_config(tmp_path, EvolveConfig(table="tabel.json"))
    mended = EvolveConfig(table="table.json")
    require_same_config(tmp_path, mended)
    (tmp_path / "round-00").mkdir()
    require_same_config(tmp_path, mended)
    with pytest.raises(TrainingError, match=r'another config: table was "table.json", is ""'):
        require_same_config(tmp_path, EvolveConfig())
    assert json.loads((tmp_path / "config.json").read_text()) == mended.to_dict()


def test_a_search_goes_on_for_more_rounds(tmp_path):
    require_same_config(tmp_path, EvolveConfig(rounds=1))
    (tmp_path / "round-00").mkdir()
    more = EvolveConfig(rounds=2**31, grow=True)  # As many as there are seeds for.
    require_same_config(tmp_path, more, may_change=MAY_CHANGE)
    assert json.loads((tmp_path / "config.json").read_text()) == more.to_dict()
    with pytest.raises(TrainingError, match=r"another config: actions was 2, is 3\. Use"):
        require_same_config(tmp_path, EvolveConfig(actions=3), may_change=MAY_CHANGE)
    with pytest.raises(TrainingError, match="rounds was 2147483648, is 1"):
        require_same_config(tmp_path, EvolveConfig(rounds=1, grow=True))


def test_fields_that_a_search_did_not_know_have_their_default(tmp_path):
    require_same_config(tmp_path, EvolveConfig())
    path = tmp_path / "config.json"
    values = json.loads(path.read_text())
    del values["grow"], values["robust"]["training"]["rematerialize"]
    path.write_text(json.dumps(values))
    (tmp_path / "state.json").touch()
    require_same_config(tmp_path, EvolveConfig())
    path.write_text("{")
    with pytest.raises(WeightFileError, match=r"config\.json is no config of this program"):
        require_same_config(tmp_path, EvolveConfig())


def test_a_run_may_become_longer_and_keep_its_books_otherwise(tmp_path):
    job = UNetJob()
    begin(tmp_path, job)
    longer = job.replace(training=job.training.replace(steps=5000, log_every=7, keep_every=100))
    save_config(tmp_path, longer)
    assert load_job(tmp_path) == longer
    smaller = longer.replace(training=longer.training.replace(steps=6000, batch_size=8))
    with pytest.raises(TrainingError, match=r"another config: training\.batch_size was 64, is 8\."):
        save_config(tmp_path, smaller)
    assert load_job(tmp_path) == longer


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"preview_steps": 0}, "preview_steps is 0; it must be between 1 and 1000"),
        ({"preview_steps": 51, "distill": LCM}, "preview_steps is 51; .* between 1 and 50"),
    ],
)
def test_pictures_that_cannot_be_drawn_are_refused_before_the_first_step(changes, message):
    with pytest.raises(ValueError, match=message):
        UNetJob(**changes)


def test_networks_that_were_trained_on_since_a_run_began_are_told(networks, tmp_path):
    autoencoder = tmp_path / "autoencoder"
    autoencoder.write_bytes((networks / "autoencoder").read_bytes())
    job = job_of(networks, autoencoder=str(autoencoder), clip="nowhere")
    require_same_networks(tmp_path, job)
    require_same_networks(tmp_path, job)
    found = job_of(networks, autoencoder=str(autoencoder))
    require_same_networks(tmp_path, found)  # CLIP is there now.
    autoencoder.write_bytes((networks / "clip").read_bytes())
    with pytest.raises(TrainingError, match=f"^{autoencoder} changed since {tmp_path} began"):
        require_same_networks(tmp_path, found)
    require_same_networks(tmp_path, job_of(networks))  # It learns from another file.


def test_a_run_that_never_began_is_bound_to_no_network(networks, tmp_path):
    autoencoder, workdir = tmp_path / "autoencoder", tmp_path / "run"
    job = job_of(networks, autoencoder=str(autoencoder))
    for name in ("autoencoder", "clip"):  # As if it was trained on.
        autoencoder.write_bytes((networks / name).read_bytes())
        save_config(workdir, job)
        require_same_networks(workdir, job)
    (workdir / "weights.safetensors").touch()
    autoencoder.write_bytes((networks / "autoencoder").read_bytes())
    save_config(workdir, job)
    with pytest.raises(TrainingError, match=f"^{autoencoder} changed since {workdir} began"):
        require_same_networks(workdir, job)


def test_what_a_search_reads_is_compared_once_it_began(networks, tmp_path):
    robust = job_of(networks, clip=str(tmp_path / "clip"))
    config = EvolveConfig(unet=str(tmp_path / "unet"), robust=robust)
    workdir, measured = tmp_path / "search", {"table.json": {"about": {"device": "x"}}}
    (tmp_path / "unet").write_text("a")

    def go_on(table=measured):
        require_same_config(workdir, config)
        require_same_networks(workdir, config, config.robust, also=table)

    (tmp_path / "clip").write_text("a slip")
    go_on()
    (tmp_path / "clip").write_text("a")
    go_on()  # Nothing was done yet.
    (workdir / "round-00").mkdir()
    go_on()
    for name in ("clip", "unet"):
        (tmp_path / name).write_text("trained anew")
        with pytest.raises(TrainingError, match=f"^{tmp_path / name} changed since {workdir} be"):
            go_on()
        (tmp_path / name).write_text("a")
    with pytest.raises(TrainingError, match=r"^table\.json changed since"):
        go_on({"table.json": {"about": {"device": "y"}}})
    go_on()


def test_another_part_is_another_run(tmp_path):
    begin(tmp_path, AutoencoderJob())
    with pytest.raises(WeightFileError, match="trained the autoencoder; the UNet's run is wanted"):
        load_unet_job(tmp_path)
    with pytest.raises(TrainingError, match="holds a run of autoencoder, and this is one of unet"):
        save_config(tmp_path, UNetJob())


@pytest.mark.parametrize("content", [None, "{", "[]", "{}", '{"part": "unet", "color": 1}'])
def test_a_folder_that_is_no_run(tmp_path, content):
    if content is not None:
        (tmp_path / "config.json").write_text(content)
    with pytest.raises(WeightFileError, match="is no run of tools/train.py"):
        load_job(tmp_path)
