"""The programs as a user types them, on a few real pictures of 16 px and for a few steps."""

import json
import os
import pathlib
import shutil
import subprocess
import sys

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from tests.tools.refusals import refusal
from tests.training.tiny_job import shared_strategy
from tfsnap.evolve.actions import apply, possible
from tfsnap.evolve.config import EvolveConfig
from tfsnap.evolve.evolver import Evolver
from tfsnap.evolve.latency import LatencyTable
from tfsnap.models.blocks import blocks_of
from tfsnap.models.presets import find_unet
from tfsnap.training.jobs.runs import load_finished
from tfsnap.training.stopping import StopRequest
from tfsnap.weights.archive import load_trained
from tfsnap.weights.store import addressed, load_tensors

ROOT = pathlib.Path(__file__).parents[2]
SMALL = (
    "--config.data.resolution=16",
    "--config.training.steps=3",
    "--config.training.batch_size=4",
    "--config.training.checkpoint_every=2",
    "--config.training.log_every=1",
    "--config.training.jit_compile=False",  # Its three steps cannot earn the compilation back.
)


def run(program, *arguments):
    command = [sys.executable, str(ROOT / f"tools/{program}.py"), *arguments]
    # On the CPU alone, so that a machine with a GPU runs the same test.
    environment = {**os.environ, "CUDA_VISIBLE_DEVICES": ""}
    return subprocess.run(command, capture_output=True, text=True, env=environment)


def succeed(program, *arguments):
    result = run(program, *arguments)
    assert result.returncode == 0, result.stderr[-3000:]
    return result.stdout


def training(part, workdir):
    """What tools/train.py is told."""
    return f"--config={ROOT}/configs/emoji/{part}.py:demo", f"--workdir={workdir}", *SMALL


def train(part, workdir, *more):
    return run("train", *training(part, workdir), *more)


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """Workdirs of the three parts, trained one after another."""
    folder = tmp_path_factory.mktemp("runs")
    weights = [
        f"--config.{part}={folder}/{part}/weights.safetensors" for part in ("autoencoder", "clip")
    ]
    more = {
        "autoencoder": [],
        "clip": ["--config.model.image.resolution=16"],
        "unet": [*weights, "--config.preview_steps=1"],
    }
    for part, arguments in more.items():
        result = train(part, folder / part, *arguments)
        assert result.returncode == 0, result.stderr[-3000:]
        (folder / f"{part}.out").write_text(result.stdout)
    return folder


@pytest.fixture(scope="module")
def bundle(runs):
    output = succeed(
        "export",
        f"--workdir={runs}/unet",
        f"--output={runs}/bundle",
        "--precision=int8",
        "--min_psnr=15",  # Networks of three steps are nearly noise.
    )
    assert "unet" in output and "dB against Keras" in output
    return runs / "bundle"


@pytest.mark.parametrize("part", ["autoencoder", "clip", "unet"])
def test_training_reports_and_leaves_its_files(runs, part):
    output = (runs / f"{part}.out").read_text()
    assert "step 3/3" in output and "loss" in output and "left" in output
    config = json.loads((runs / part / "config.json").read_text())
    assert config["part"] == part
    assert config["training"]["steps"] == 3
    assert list((runs / part / "tensorboard").iterdir())
    assert (runs / part / "checkpoints/step-00000003.safetensors").is_file()


def test_a_cache_of_latents_stands_for_pictures_and_networks(runs, tmp_path):
    unet = f"--config={ROOT}/configs/emoji/unet.py:demo"
    weights = [
        f"--config.{part}={runs}/{part}/weights.safetensors" for part in ("autoencoder", "clip")
    ]
    size = "--config.data.resolution=16"
    output = succeed("prepare_data", unet, size, *weights, f"--latents={tmp_path}/cache")
    lines = output.splitlines()
    assert lines[0].startswith("encoding: ") and lines[-1].endswith(f"latents={tmp_path}/cache")
    (context,) = [line for line in lines if line.startswith("context")]
    assert "float16" in context and context.endswith("8, 24, 128]")
    nowhere = ["--config.autoencoder=nowhere", "--config.clip=nowhere"]
    cached = [*nowhere, f"--config.latents={tmp_path}/cache"]
    result = train("unet", tmp_path / "run", *cached)
    assert result.returncode == 0, result.stderr[-3000:]
    assert (tmp_path / "run/weights.safetensors").is_file()
    other = train("unet", tmp_path / "other", *cached, "--config.data.caption_variants=2")
    assert other.returncode == 1
    assert "data.caption_variants was 8, is 2" in other.stderr.strip().splitlines()[-1]
    clip = f"--config={ROOT}/configs/emoji/clip.py:demo"
    foreign = run("prepare_data", clip, f"--latents={tmp_path}/x")
    assert foreign.returncode == 1
    assert foreign.stderr.strip().splitlines()[-1].endswith("this one trains the CLIP")


def test_the_autoencoder_measures_its_scale(runs):
    _, about = load_tensors(runs / "autoencoder/weights.safetensors")
    assert about["network"] == "autoencoder"
    assert about["config"]["scale"] != 0.18215


def test_training_again_is_done_at_once_and_another_config_is_refused(runs):
    again = train("autoencoder", runs / "autoencoder")
    assert again.returncode == 0 and "already trained" in again.stdout
    seed = "--config.training.seed=1"
    told = refusal("train", *training("autoencoder", runs / "autoencoder"), seed)
    assert "training.seed was 0, is 1" in told


@pytest.mark.parametrize(
    ("argument", "message"),
    [
        ("--config.training.steps=0", "TrainingConfig.steps is 0; it must be at least 1"),
        ("--config.data.dataset=coco", "dataset is 'coco'"),
    ],
)
def test_a_bad_config_is_one_line(tmp_path, argument, message):
    told = refusal("train", *training("autoencoder", tmp_path), argument)
    assert told.startswith("train: ") and message in told


def test_a_missing_autoencoder_is_one_line(tmp_path):
    nowhere = ("--config.autoencoder=nowhere", "--config.clip=nowhere")
    told = refusal("train", *training("unet", tmp_path), *nowhere)
    assert told == "train: nowhere: no such weight file"


def test_generate_and_benchmark_with_the_exported_bundle(bundle, tmp_path):
    picture = tmp_path / "x.png"
    succeed(
        "generate",
        f"--bundle={bundle}",
        "--prompt=panda, noto style",
        "--steps=2",
        f"--output={picture}",
    )
    assert Image.open(picture).size == (16, 16)
    succeed(
        "benchmark",
        f"--bundle={bundle}",
        "--threads=2",
        "--steps=2",
        "--runs=3",
        f"--json={tmp_path / 'r.json'}",
    )
    report = json.loads((tmp_path / "r.json").read_text())
    assert set(report["components"]) == {"text_encoder", "unet", "decoder"}
    assert report["evaluations"] == 4


def test_evaluate_keras_and_the_bundle(runs, bundle, tmp_path):
    arguments = [f"--workdir={runs}/unet", "--count=4", "--steps=2", "--split=validation+holdout"]
    reports = []
    for more in ([], [f"--bundle={bundle}"]):
        succeed("evaluate", *arguments, *more, f"--json={tmp_path / 'e.json'}")
        reports.append(json.loads((tmp_path / "e.json").read_text()))
    keras, int8 = reports
    assert keras["count"] == int8["count"] == 4
    assert keras["chance"] == pytest.approx(1 / 208)
    # The same noise and nearly the same networks give nearly the same score.
    assert keras["clip_score"] == pytest.approx(int8["clip_score"], abs=0.2)


def test_evaluate_an_autoencoder_from_its_run_and_from_its_weights(runs, tmp_path):
    weights = f"{runs}/autoencoder/weights.safetensors"
    report = tmp_path / "e.json"
    output = succeed("evaluate", f"--workdir={runs}/autoencoder", f"--json={report}")
    found = json.loads(report.read_text())
    assert set(found) == {"what", "split", "psnr", "count"}
    assert found["what"] == weights and found["split"] == "validation"
    # Three steps teach a little; another range of pictures, or of errors, would be far off.
    assert 2 < found["psnr"] < 20
    expected = f"PSNR {found['psnr']:.1f} dB of {found['count']} pictures"
    assert output == f"{weights}, validation: {expected}\n"
    arguments = [f"--weights={weights}", "--dataset=emoji", "--resolution=16", "--count=5"]
    assert "dB of 5 pictures" in succeed("evaluate", *arguments, "--split=train+holdout")


def test_evaluate_a_clip(runs, tmp_path):
    report = tmp_path / "e.json"
    run_ = f"--workdir={runs}/clip"
    output = succeed("evaluate", run_, "--split=holdout", "--count=6", f"--json={report}")
    found = json.loads(report.read_text())
    assert f"top-1 {found['top1']:.1%} of 6 pictures" in output
    whole = succeed("evaluate", run_, "--split=holdout", f"--json={report}")
    assert json.loads(report.read_text())["chance"] == found["chance"]  # Among all of the split.
    assert f"of {round(1 / found['chance'])} pictures" in whole


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--weights={runs}/unet/weights.safetensors"], "expected autoencoder or clip"),
        (["--weights=nowhere"], "nowhere: no such weight file"),
        (["--workdir={runs}"], "is no run of tools/train.py"),
        (["--workdir={runs}/clip", "--resolution=32"], "do not fit this CLIP, which takes 16 x 16"),
        (["--workdir={runs}/clip", "--bundle=x"], "--bundle is for a UNet's run"),
        (["--workdir={runs}/clip", "--split=test"], "split is 'test'; it must be one of"),
        (["--workdir={runs}/clip", "--dataset=coco"], "dataset is 'coco'; it must be one of"),
    ],
)
def test_evaluating_what_cannot_be_is_one_line(runs, arguments, message):
    told = refusal("evaluate", *(argument.format(runs=runs) for argument in arguments))
    assert told.startswith("evaluate: ") and message in told


def test_exporting_something_else_is_one_line(runs, tmp_path):
    told = refusal("export", f"--workdir={runs}/clip", f"--output={tmp_path}/b")
    assert told.endswith("the UNet's run is wanted")
    assert not (tmp_path / "b").exists()


def test_an_adaptation_is_trained_and_merged(runs, tmp_path):
    base = f"--config.lora.base={runs}/unet/weights.safetensors"
    weights = [
        f"--config.{part}={runs}/{part}/weights.safetensors" for part in ("autoencoder", "clip")
    ]
    done = train("unet", runs / "lora", *weights, "--config.lora.rank=2", base)
    assert done.returncode == 0, done.stderr[-3000:]
    tensors, about = load_tensors(runs / "lora/weights.safetensors")
    assert about["lora_adapter_metadata"]["unet.r"] == 2
    assert all(name.startswith("unet.") for name in tensors)
    shutil.copy(runs / "unet/weights.safetensors", tmp_path / "unet.safetensors")
    succeed(
        "convert_weights",
        f"--input={tmp_path}/unet.safetensors",
        "--component=unet",
        f"--lora={runs}/lora/weights.safetensors",
        f"--output={tmp_path}/merged",
    )
    merged, _ = load_tensors(tmp_path / "merged/unet.safetensors")
    before, _ = load_tensors(tmp_path / "unet.safetensors")
    changed = {name for name in merged if not np.array_equal(merged[name], before[name])}
    assert changed and all("attention" in name for name in changed)
    finished = load_finished(runs / "lora").unet  # What other programs load.
    for name, variable in addressed(finished.variables).items():
        np.testing.assert_allclose(variable, merged[name], atol=1e-6)


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
        assert min(score["score"] for score in item["scores"]) == removed[0]["score"]
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


def test_a_decoder_is_distilled_and_takes_the_teachers_place(runs, bundle):
    flags = (
        f"--config={ROOT}/configs/emoji/decoder_distill.py",
        f"--workdir={runs}/decoder",
        *SMALL,
        *(
            f"--config.{part}={runs}/{part}/weights.safetensors"
            for part in ("autoencoder", "clip", "unet")
        ),
        "--config.pool=6",
        "--config.pool_steps=2",
        f"--config.cache={runs}/pools",
        "--config.steps=2",
    )
    output = succeed("train", *flags)
    pools = sorted(path.name for path in (runs / "pools").iterdir())
    assert pools[:2] == ["pool-000000.safetensors", "pool-000001.safetensors"]  # Three steps.
    # Batches are made ahead of their steps: more pools may be there, and one more begun at the end.
    assert "psnr" in output
    assert output.count("sampling 6 latents") - len(pools) in (0, 1)
    weights = runs / "decoder/weights.safetensors"
    student = load_trained(weights, "autoencoder")
    teacher = load_trained(runs / "autoencoder/weights.safetensors", "autoencoder")
    assert student.model.config.decoder_channels == (8, 16, 32)
    assert student.model.config.scale == teacher.model.config.scale
    old, new = (
        load_tensors(runs / f"{p}/weights.safetensors")[0] for p in ("autoencoder", "decoder")
    )
    for name, value in new.items():
        if name.startswith(("encoder.", "quant_conv.")):
            np.testing.assert_array_equal(value, old[name])
    succeed(
        "export",
        f"--workdir={runs}/unet",
        f"--autoencoder={weights}",
        f"--output={runs}/small",
        "--precision=int8",
        "--min_psnr=15",
    )
    sizes = [(folder / "decoder.tflite").stat().st_size for folder in (runs / "small", bundle)]
    assert sizes[0] < sizes[1]
    refused = run(
        "export",
        f"--workdir={runs}/unet",
        f"--autoencoder={ROOT}/tfsnap/presets/emoji-64/autoencoder.safetensors",
        f"--output={runs}/other",
    )
    assert refused.returncode == 1
    assert "the other autoencoder is of another kind" in refused.stderr.strip().splitlines()[-1]
