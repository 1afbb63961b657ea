"""tools/check_delegate.py as a user types it."""

import json
import os

import pytest

from tests.export.rules.violations import GPU, fp16
from tests.tools.programs import run
from tests.tools.refusals import ending, refusal


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    folder = tmp_path_factory.mktemp("models")
    (broadcast,) = [case for case in GPU if case.rule == "broadcast-to"]
    (folder / "bad.tflite").write_bytes(broadcast.model())
    (folder / "good.tflite").write_bytes(fp16(lambda a: a * 2.0, (1, 4, 4, 8)))
    (folder / "short.tflite").write_bytes(broadcast.model()[:600])
    (folder / "text.tflite").write_text("an apple")
    whole = (folder / "good.tflite").read_bytes()
    (folder / "tail.tflite").write_bytes(whole[:-10])
    (folder / "other.json").write_text('{"unet": {"a": [0, 1]}}')
    (folder / "empty.npz").touch()
    (folder / "bad.json").write_text("an apple")
    (folder / "cut.tfsnap").write_bytes(b"PK\3\4 and so on")
    (folder / "cut.zip").write_bytes(b"PK\3\4 and so on")
    return folder


def test_a_failing_model_is_told_with_rule_layer_and_shapes(models, tmp_path):
    report = tmp_path / "report.json"
    result = run("check_delegate", f"{models}/bad.tflite", "--target=gpu", f"--json={report}")
    assert result.returncode == 1
    assert "bad: 3 operators on gpu: FAILS, 1 would not run there" in result.stdout
    assert "rejected broadcast-to: GPU delegates have no BROADCAST_TO" in result.stdout
    assert "BROADCAST_TO" in result.stdout and "float32[1, 4, 4, 16]" in result.stdout
    (model,) = json.loads(report.read_text())
    (finding,) = model["findings"]
    assert model["passed"] is False
    assert (finding["rule"], finding["builtin"]) == ("broadcast-to", "BROADCAST_TO")
    assert finding["operator"] < model["operators"] and finding["layer"]


def test_a_model_that_passes_is_told_so(models):
    result = run("check_delegate", f"{models}/good.tflite", "--target=gpu", "--gpu=adreno-740")
    assert (result.returncode, result.stdout) == (0, "good: 2 operators on gpu: passes\n")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["{models}/text.tflite", "--target=gpu"], "text is no TFLite model: bytes 5 to 8 are"),
        (["{models}/short.tflite", "--target=gpu"], "short is damaged or cut short"),
        (["{models}/tail.tflite", "--target=gpu"], "tail is damaged or cut short"),
        (
            ["{models}/cut.tfsnap", "--target=gpu"],
            "cut.tfsnap is cut short or damaged: copy or export it again",
        ),
        (["{models}/cut.zip", "--target=gpu"], "cut.zip is cut short or damaged: copy or"),
        (["{models}/none.tflite", "--target=gpu"], "there is no model at"),
        (["{models}", "--target=gpu"], "manifest.json"),
        (["{models}/good.tflite", "--target=gpu", "--gpu=voodoo"], "GPU class is 'voodoo'"),
        (
            ["{models}/good.tflite", "--target=gpu", "--ranges={models}/text.tflite"],
            "holds no recorded ranges",
        ),
        (
            ["{models}/good.tflite", "--target=gpu", "--ranges={models}/other.json"],
            "is about unet, not good",
        ),
        (
            ["{models}/good.tflite", "--target=gpu", "--ranges={models}/empty.npz"],
            "empty.npz holds no recorded ranges",
        ),
        (
            ["{models}/good.tflite", "--target=xnnpack", "--ranges={models}/other.json"],
            "--ranges says nothing about --target=xnnpack: leave it out, or choose gpu, "
            "gpu_classic or coreml",
        ),
        (
            ["{models}/good.tflite", "--target=nnapi", "--record={models}/ranges.json"],
            "--record says nothing about --target=nnapi",
        ),
        (
            ["{models}/good.tflite", "--target=coreml", "--gpu=adreno-740"],
            "--gpu says nothing about --target=coreml: leave it out, or choose gpu or gpu_classic",
        ),
        (
            ["{models}/good.tflite", "--target=gpu", "--record={models}/ranges.json"],
            "is no tfsnap bundle",
        ),
        (
            ["{models}/good.tflite", "--target=gpu", "--record={models}/ranges.npz"],
            "--record={models}/ranges.npz is written as JSON: give a name that ends in .json",
        ),
        (
            [
                "{models}",
                "--target=gpu",
                "--record={models}/../r.json",
                "--json={models}/../r.json",
            ],
            "--json and --record name one file, {models}/../r.json: give two",
        ),
        (
            [
                "{models}/good.tflite",
                "--target=gpu",
                "--json={models}/other.json",
                "--ranges={models}/other.json",
            ],
            "--json and --ranges name one file, {models}/other.json: give two",
        ),
        (
            ["{models}/good.tflite", "--target=gpu", "--json={models}/good.tflite"],
            "--json={models}/good.tflite is the model, or in it: give another file",
        ),
        (
            ["{models}", "--target=gpu", "--json={models}/other.json"],
            "--json={models}/other.json is the model, or in it: give another file",
        ),
        (
            ["{models}/good.tflite", "--target=gpu", "--json={models}/text.tflite"],
            "--json={models}/text.tflite exists and is no JSON: give another file",
        ),
        (
            ["{models}/good.tflite", "--target=gpu", "--record={models}/bad.json"],
            "--record={models}/bad.json exists and is no JSON: give another file",
        ),
        (
            ["{models}/good.tflite", "--target=gpu", "--record={models}/none/r.json"],
            "Cannot write {models}/none/r.json: there is no folder {models}/none, create it first",
        ),
        (
            ["{models}/none.tflite", "--target=gpu", "--json={models}"],
            "Cannot write {models}: it is a folder, name a file in it",
        ),
    ],
)
def test_what_cannot_be_checked_is_one_line(models, arguments, message):
    told = refusal("check_delegate", *(argument.format(models=models) for argument in arguments))
    assert told.startswith("check_delegate: ") and message.format(models=models) in told


def test_reports_replace_earlier_ones(models, tmp_path):
    for content in ("", "[]", '{"a": 1}'):
        (tmp_path / "report.json").write_text(content)
        flags = "--target=gpu", f"--json={tmp_path}/report.json"
        assert ending("check_delegate", models / "good.tflite", *flags) == 0
        assert json.loads((tmp_path / "report.json").read_text())[0]["passed"] is True


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="no /dev/full")
def test_a_report_that_finds_no_room_costs_no_verdict(models, capsys):
    told = refusal("check_delegate", models / "good.tflite", "--target=gpu", "--json=/dev/full")
    assert told == "check_delegate: Cannot write /dev/full: No space left on device"
    assert capsys.readouterr().out == "good: 2 operators on gpu: passes\n"


def test_a_folder_that_takes_no_files_is_found_out_before_the_work(models, monkeypatch):
    """As root, permissions alone do not tell: /proc takes none."""
    monkeypatch.setattr("tfsnap.export.rules.models.models_of", None)
    told = refusal("check_delegate", models / "good.tflite", "--target=gpu", "--json=/proc/x.json")
    assert told == "check_delegate: Cannot write /proc/x.json: No such file or directory"
