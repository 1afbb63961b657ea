"""The programs as a user types them, on a few real pictures of 16 px and for a few steps."""

import json
import os
import shutil

import numpy as np
import pytest
from PIL import Image

from tests.tools.programs import ROOT, SMALL, run, succeed, train, training
from tests.tools.refusals import ending, refusal
from tfsnap.lock import LOCK, alone_in
from tfsnap.runtime.bundle import Bundle
from tfsnap.training.jobs.runs import load_finished
from tfsnap.training.strategy import Place
from tfsnap.training.trainer import Trainer
from tfsnap.weights.archive import load_trained
from tfsnap.weights.store import addressed, load_tensors

AUTOENCODER = f"{ROOT}/tfsnap/presets/emoji-64/autoencoder.safetensors"


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
        ("--config.training.seed=-1", "TrainingConfig.seed is -1; it must be at least 0"),
        ("--config.training.optimizer.beta_1=1.0", "beta_1 is 1.0; it must be in [0, 1)"),
        ("--config.training.optimizer.clip_norm=inf", "clip_norm is inf; it must be positive and"),
    ],
)
def test_a_bad_config_is_one_line(tmp_path, argument, message):
    told = refusal("train", *training("autoencoder", tmp_path), argument)
    assert told.startswith("train: ") and message in told


def test_a_config_of_no_training_is_one_line(tmp_path):
    told = refusal("train", f"--config={ROOT}/configs/emoji/pipeline.py", f"--workdir={tmp_path}/a")
    assert told.startswith("train: config.part is None; it must be one of autoencoder")


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
    report = tmp_path / "new" / "e.json"
    run_ = f"--workdir={runs}/clip"
    output = succeed("evaluate", run_, "--split=holdout", "--count=6", f"--json={report}")
    found = json.loads(report.read_text())
    assert f"top-1 {found['top1']:.1%} of 6 pictures" in output
    whole = succeed("evaluate", run_, "--split=holdout", f"--json={report}")
    assert json.loads(report.read_text())["chance"] == found["chance"]  # Among all of the split.
    assert f"of {round(1 / found['chance'])} pictures" in whole


def test_a_report_that_cannot_be_written_is_one_line(tmp_path):
    (tmp_path / "file").touch()
    told = refusal("evaluate", "--weights=nowhere", f"--json={tmp_path / 'file' / 'e.json'}")
    assert told.startswith("evaluate: ") and str(tmp_path / "file") in told


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--weights={runs}/unet/weights.safetensors"], "expected autoencoder or clip"),
        (["--weights=nowhere"], "nowhere: no such weight file"),
        (["--workdir={runs}"], "is no run of tools/train.py"),
        (["--workdir={runs}/clip", "--resolution=32"], "do not fit this CLIP, which takes 16 x 16"),
        (["--workdir={runs}/clip", "--bundle=x"], "--bundle says nothing about {runs}/clip/wei"),
        (
            [f"--weights={AUTOENCODER}", "--guidance=9", "--steps=3", "--seed=0"],
            f"--steps, --guidance and --seed say nothing about {AUTOENCODER}, which holds autoen",
        ),
        (["--workdir={runs}/unet", "--threads=7"], "--threads says nothing about Keras: leave it"),
        (["--workdir={runs}/clip", "--split=test"], "split is 'test'; it must be one of"),
        (["--workdir={runs}/clip", "--dataset=coco"], "dataset is 'coco'; it must be one of"),
    ],
)
def test_evaluating_what_cannot_be_is_one_line(runs, arguments, message):
    told = refusal("evaluate", *(argument.format(runs=runs) for argument in arguments))
    assert told.startswith("evaluate: ") and message.format(runs=runs) in told


def test_going_on_from_nothing_is_one_line(tmp_path):
    unet = f"--config={ROOT}/configs/emoji/unet.py:demo"
    given = [f"--workdir={tmp_path}/typo", f"--output={tmp_path}/step"]
    told = refusal("compile_step", unet, *given)
    assert told.startswith(f"compile_step: --workdir={tmp_path}/typo has no checkpoint to go on fr")
    assert not any(tmp_path.iterdir())


def test_a_shape_that_is_none_is_one_line(runs, tmp_path):
    told = refusal("export", f"--workdir={runs}/unet", f"--output={tmp_path}/b", "--shape=wide")
    assert told.startswith("export: The size is 'wide'; it must be HEIGHTxWIDTH, as 512x768")


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
    small = runs / "small.tfsnap"
    succeed(
        "export",
        f"--workdir={runs}/unet",
        f"--autoencoder={weights}",
        f"--output={small}",
        "--precision=int8",
        "--min_psnr=15",
        "--shape=16x24",
        "--shape=16x16",
        "--chunks=2",
        "--guidance_batch",
    )
    manifest = Bundle.open(small).manifest
    assert [size.name for size in manifest.sizes] == ["16x24", "16x16"]
    assert len(manifest.components["unet"].chunks) == manifest.contexts == 2
    assert manifest.components["decoder"].size < (bundle / "decoder.tflite").stat().st_size
    flags = [f"--bundle={small}", "--prompt=panda", "--steps=1", f"--output={runs}/small.png"]
    succeed("generate", *flags, "--size=16x16", "--low_memory")
    assert Image.open(runs / "small.png").size == (16, 16)
    told = run("generate", *flags, "--size=24x16").stderr
    assert "draws pictures of 16x24, 16x16 pixels (height x width), not 24x16" in told
    refused = run(
        "export",
        f"--workdir={runs}/unet",
        f"--autoencoder={ROOT}/tfsnap/presets/emoji-64/autoencoder.safetensors",
        f"--output={runs}/other",
    )
    assert refused.returncode == 1
    assert "the other autoencoder is of another kind" in refused.stderr.strip().splitlines()[-1]


@pytest.mark.parametrize(
    ("program", "arguments"),
    [
        ("train", [f"--config={ROOT}/configs/emoji/autoencoder.py:demo"]),
        ("evolve", [f"--config={ROOT}/configs/emoji/evolve.py"]),
        ("distill_pipeline", [f"--config={ROOT}/configs/emoji/pipeline.py"]),
        ("run_step", ["step"]),
    ],
)
def test_two_in_one_workdir_would_spoil_each_others_files(program, arguments, tmp_path):
    with alone_in(tmp_path):
        told = refusal(program, *arguments, f"--workdir={tmp_path}")
        left = [path.name for path in tmp_path.iterdir()]
    assert told.startswith(f"{program}: another process, pid {os.getpid()}, is at work in ")
    assert left == [LOCK]


def test_workers_share_a_workdir_that_the_first_holds(tmp_path, monkeypatch):
    monkeypatch.setattr("tfsnap.training.strategy.place_of", lambda _: Place(1, 2))
    monkeypatch.setattr(Trainer, "fit", lambda *_: None)
    with alone_in(tmp_path):
        assert ending("train", *training("autoencoder", tmp_path)) is None
