"""The search and what is done with its result, as a user types it."""

import json
import shutil

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from tests.tools.programs import ROOT, SMALL, run, succeed, train, training
from tests.tools.refusals import refusal
from tests.training.tiny_job import shared_strategy
from tfsnap.evolve.actions import apply, possible
from tfsnap.evolve.config import EvolveConfig
from tfsnap.evolve.evolver import Evolver
from tfsnap.evolve.latency import LatencyTable
from tfsnap.evolve.ranking import Scored
from tfsnap.models.blocks import blocks_of
from tfsnap.models.presets import find_unet
from tfsnap.training.portable_format import Manifest, load_state
from tfsnap.training.stopping import StopRequest
from tfsnap.weights.archive import load_trained
from tfsnap.weights.store import load_tensors


@pytest.fixture(scope="module")
def evolved(runs):
    """A search of two rounds from the UNet, by a table that was made up."""
    config = find_unet(str(runs / "unet/config.json"))
    blocks = dict.fromkeys(blocks_of(config, latent=(4, 4), tokens=24).values())
    made_up = {block: 1.0 + number % 3 for number, block in enumerate(blocks)}
    LatencyTable(made_up, {"device": "made up"}).save(runs / "table.json")
    done = run("evolve", *search(runs))
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


def search(runs, *more):
    small = (flag.replace("--config.", "--config.robust.") for flag in SMALL)
    return (
        f"--config={ROOT}/configs/emoji/evolve.py",
        f"--workdir={runs}/evolved",
        f"--config.unet={runs}/unet/weights.safetensors",
        f"--config.table={runs}/table.json",
        *(f"--config.robust.{p}={runs}/{p}/weights.safetensors" for p in ("autoencoder", "clip")),
        "--config.robust.preview_steps=1",
        "--config.robust.run_probability=1.0",  # What it does is tested by itself, and slow.
        *small,
        "--config.rounds=2",
        "--config.prompts=8",
        "--config.laps=2",
        "--config.steps=1",
        *more,
    )


def test_a_search_ends_with_a_network_that_is_faster(runs, evolved):
    folder = runs / "evolved"
    state = json.loads((folder / "state.json").read_text())
    assert [item["number"] for item in state["rounds"]] == [0, 1]
    latencies = []
    for item in state["rounds"]:
        latencies.append(item["latency"])
        removed = [score for score in item["scores"] if score["chosen"]]
        assert 1 <= len(removed) <= 2
        assert all(score["count"] == 8 for score in removed)
        stayed = [Scored.from_dict(score) for score in item["scores"] if score["count"] == 8]
        best = min(stayed, key=lambda score: (score.cost, -score.dlatency))
        assert str(best.action) == str(Scored.from_dict(removed[0]).action)
    assert latencies[1] < latencies[0]
    found = find_unet(str(folder / "unet.json"))
    before = find_unet(str(runs / "unet/config.json"))
    blocks = (len(blocks_of(c, latent=(4, 4), tokens=24)) for c in (found, before))
    assert next(blocks) < next(blocks)
    trained = load_trained(folder / "round-01/edited.safetensors", "unet")
    assert trained.model.config == found
    assert trained.about["prediction"] == "v"
    assert "| action | dCLIP |" in (folder / "rounds.md").read_text()
    assert Image.open(folder / "rounds.png").width > 300
    assert f"Network: {folder}/unet.json" in evolved
    result = train(
        "unet",
        runs / "finetuned",
        f"--unet={folder}/unet.json",
        f"--config.training.init={folder}/round-01/edited.safetensors",
        *(f"--config.{p}={runs}/{p}/weights.safetensors" for p in ("autoencoder", "clip")),
    )
    assert result.returncode == 0, result.stderr[-3000:]
    finetuned = load_trained(runs / "finetuned/weights.safetensors", "unet").model
    assert finetuned.config == found
    unet = f"--unet={folder}/unet.json"
    told = refusal("train", *training("autoencoder", runs / "other"), unet)
    assert "--unet is for configs of UNets; this one trains the autoencoder" in told


def test_a_search_goes_on_where_it_stopped(runs, evolved):
    folder = runs / "evolved"
    expected = (folder / "state.json").read_text()
    state = json.loads(expected)
    first = load_trained(folder / "round-00/edited.safetensors", "unet").model.config
    state = {
        "config": first.to_dict(),
        "weights": str(folder / "round-00/edited.safetensors"),
        "rounds": state["rounds"][:1],
    }
    (folder / "state.json").write_text(json.dumps(state))
    scores = json.loads((folder / "round-01/scores.json").read_text())
    half = dict(list(scores.items())[: len(scores) // 2])  # As if it was stopped while scoring.
    (folder / "round-01/scores.json").write_text(json.dumps(half))
    (folder / "unet.json").unlink()
    assert "round-01/robust" not in succeed("evolve", *search(runs))
    again = json.loads((folder / "state.json").read_text())
    assert again["config"] == json.loads(expected)["config"]
    assert "prompts was 8, is 16" in refusal("evolve", *search(runs, "--config.prompts=16"))


def test_a_table_that_was_measured_anew_is_refused(runs, evolved):
    table = LatencyTable.load(runs / "table.json")
    LatencyTable({block: 3 * ms for block, ms in table.ms.items()}, table.about).save(
        runs / "table.json"
    )
    told = refusal("evolve", *search(runs))
    table.save(runs / "table.json")
    assert told.startswith(f"evolve: {runs}/table.json changed since {runs}/evolved began")


def test_a_search_that_cannot_be_scored_leaves_no_trace(runs, evolved, tmp_path):
    again = [*search(runs, "--config.split=trian"), f"--workdir={tmp_path}/search"]
    assert "evolve: split is 'trian'; it must be one of" in refusal("evolve", *again)
    assert not (tmp_path / "search").exists()


def test_robust_training_is_compiled_for_a_device_without_tensorflow(runs, evolved, tmp_path):
    step, workdir = tmp_path / "step", tmp_path / "search"
    again = [*search(runs), f"--workdir={workdir}", f"--compile={step}"]
    told = succeed("evolve", *again)
    robust = workdir / "round-00/robust"
    assert f"Train with it: tools/run_step.py {step} --workdir={robust}\n" in told
    manifest = Manifest.load(step)
    assert (manifest.steps, manifest.first_step, manifest.seed) == (3, 0, 0)
    start, expected = load_state(step, manifest), load_tensors(runs / "unet/weights.safetensors")[0]
    for name, value in expected.items():
        np.testing.assert_array_equal(start[f"model/{name}"], value)
    assert not robust.exists()
    robust.mkdir(parents=True)
    shutil.copy(runs / "unet/weights.safetensors", robust)
    told = refusal("evolve", *again)
    assert told == "evolve: round 0 is trained: the command without --compile scores it"
    assert "the search is over" in refusal("evolve", *search(runs), f"--compile={step}")


def test_a_search_scores_on_two_devices_what_it_scores_on_one(runs, evolved, tmp_path):
    folder = runs / "evolved"
    config = EvolveConfig.from_dict(json.loads((folder / "config.json").read_text()))
    shutil.copytree(folder / "round-00/robust", tmp_path / "round-00/robust")
    two = shared_strategy("mirrored")
    assert len(two.extended.worker_devices) == 2
    evolver = Evolver(config.replace(rounds=1), workdir=tmp_path, strategy=two)
    with StopRequest() as stop:
        evolver.run(stop)
    mine, theirs = (
        json.loads((w / "round-00/scores.json").read_text()) for w in (tmp_path, folder)
    )
    assert mine.keys() == theirs.keys()
    for key, value in mine.items():
        np.testing.assert_allclose(value["scores"], theirs[key]["scores"], atol=1e-4)
    (found,) = evolver.rounds
    assert found.evaluations == 2 * sum(len(v["scores"]) for v in mine.values())  # One step.
    assert found.seconds > 0


def test_a_search_that_grows_copies_what_is_worth_most(runs, evolved, tmp_path):
    """Of a network that meets the objective, with scores that were made up."""
    config = EvolveConfig.from_dict(json.loads((runs / "evolved/config.json").read_text()))
    start = runs / "evolved/round-00/edited.safetensors"
    shape = load_trained(start, "unet").model.config
    (tmp_path / "round-00/robust").mkdir(parents=True)
    shutil.copy(start, tmp_path / "round-00/robust/weights.safetensors")
    state = {"config": shape.to_dict(), "weights": str(start), "rounds": []}
    (tmp_path / "state.json").write_text(json.dumps(state))
    table = LatencyTable.load(runs / "table.json")

    def ms(unet):
        return table.predict(unet, latent=(4, 4), tokens=24)

    actions = possible(shape, verbs=("remove",))
    best = max(actions, key=lambda a: ms(apply(shape, a).config))  # So that its copy fits.
    laps = {"as it is": 0.9, **{str(a): 0.0 if a == best else 0.85 for a in actions}}
    scores = {
        f"{key}, lap {lap}": {"scores": [value + i / 1000 for i in range(4)], "seconds": 1.0}
        for key, value in laps.items()
        for lap in range(2)
    }
    (tmp_path / "round-00/scores.json").write_text(json.dumps(scores))
    grown = config.replace(rounds=1, grow=True, target=0.99)
    evolver = Evolver(grown, workdir=tmp_path, strategy=shared_strategy("one"))
    assert ms(shape) < evolver.target
    with StopRequest() as stop:
        found = evolver.run(stop)
    assert evolver.rounds[0].actions[0].action.verb == "add"
    assert (tmp_path / "edits.txt").read_text().startswith(f"add {best.stage}.")
    assert ms(shape) < ms(found) <= evolver.target
    after = load_trained(evolver.weights, "unet").model
    latent, context = tf.random.normal([1, 4, 4, 4]), tf.random.normal([1, 24, 128])
    inputs = {"timesteps": tf.constant([500]), "context": context}
    expected = load_trained(start, "unet").model(latent, **inputs)
    np.testing.assert_allclose(after(latent, **inputs), expected, atol=1e-5)  # As the identity.


def test_edits_are_made_by_themselves(runs, evolved, tmp_path):
    edits, output = runs / "evolved/edits.txt", tmp_path / "edited.safetensors"
    weights = f"--weights={runs}/unet/weights.safetensors"
    told = succeed("edit_unet", weights, f"--edits={edits}", f"--output={output}")
    assert edits.read_text() in told and "parameters before" in told
    found = find_unet(str(runs / "evolved/unet.json"))
    assert find_unet(str(tmp_path / "edited.json")) == found
    (tensors, about), (before, _) = (
        load_tensors(p) for p in (output, runs / "unet/weights.safetensors")
    )
    assert about["prediction"] == "v"
    np.testing.assert_array_equal(tensors["conv_in.kernel"], before["conv_in.kernel"])
    wrong = "remove up.9.resnets.1"
    told = refusal("edit_unet", weights, f"--edit={wrong}", f"--output={output}")
    assert told == f"edit_unet: this UNet does not allow: {wrong}"
    told = refusal("edit_unet", weights, f"--edits={edits}", f"--output={tmp_path}/small.json")
    assert told.startswith("edit_unet: --output is ") and told.endswith("beside the weights")
    assert not (tmp_path / "small.json").exists()
