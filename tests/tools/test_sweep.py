"""tools/sweep.py and tools/reference_statistics.py as a user types them."""

import json
import os
import pathlib
import shutil
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
from PIL import Image

from tests.tools.programs import ROOT
from tests.tools.refusals import ending, refusal
from tfsnap.data.catalogue import EMOJI_VERSION
from tfsnap.data.fetch import data_root
from tfsnap.metrics.reference import load_reference

SHIPPED = ROOT / "tfsnap/presets/emoji-64/emoji-64-int8.tfsnap"


def sweep_arguments(runs, output):
    return [f"--networks=net={runs}/unet", f"--output={output}", "--count=40", "--resamples=5"]


@pytest.fixture(scope="module")
def swept(runs, tmp_path_factory):
    """The folder of a sweep that was killed after its first chunk of pictures, and run again."""
    output = tmp_path_factory.mktemp("sweep") / "out"
    arguments = [*sweep_arguments(runs, output), "--guidance=1,2", "--steps=1"]
    first = output / "points" / "net-steps1-guidance1" / "000000.npz"
    process = subprocess.Popen(
        [sys.executable, str(ROOT / "tools/sweep.py"), *arguments],
        env={**os.environ, "CUDA_VISIBLE_DEVICES": ""},
        stderr=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
    )
    while not first.is_file() and process.poll() is None:
        time.sleep(0.05)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert not (output / "results.json").exists()
    kept = first.stat().st_mtime_ns
    assert ending("sweep", *arguments) is None
    assert first.stat().st_mtime_ns == kept
    return output


def test_a_sweep_that_was_killed_ends_with_tables_and_plots(swept):
    values = json.loads((swept / "results.json").read_text())
    assert [point["point"]["guidance"] for point in values["points"]] == [1.0, 2.0]
    assert {point["count"] for point in values["points"]} == {40}
    assert values["floors"]["validation"]["distances"]["clip"]["value"] > 0
    assert Image.open(swept / "validation.png").width > 1000
    assert "real pictures" in (swept / "results.md").read_text()


def test_captions_are_looked_for_among_the_prompts_alone(runs, swept, tmp_path):
    output = tmp_path / "out"
    shutil.copytree(swept, output)
    arguments = sweep_arguments(runs, output)
    assert ending("sweep", *arguments, "--guidance=1", "--steps=1", "--among=prompts") is None
    chances = [
        json.loads((folder / "results.json").read_text())["points"][0]["agreement"]["chance"]
        for folder in (swept, output)
    ]
    assert chances[1] == pytest.approx(1 / 5)  # The forty pictures have five captions.
    assert chances[0] < 1 / 200


def test_a_bundle_and_the_real_pictures_of_another_split(runs, bundle, tmp_path):
    clip = f"--clip={runs}/clip/weights.safetensors"
    for split in ("validation", "train"):
        arguments = ["--dataset=emoji", f"--split={split}", "--resolution=16"]
        output = f"--output={tmp_path}/{split}.npz"
        assert ending("reference_statistics", *arguments, clip, output) is None
    code = ending(
        "sweep",
        f"--networks=int8={bundle}?steps=1&sampler=dpmpp_2m,own={bundle}?guidance=2,"
        f"more={bundle}?guidance=2",
        "--baseline=own",
        "--resolution=16",
        f"--output={tmp_path}/out",
        clip,
        f"--references=real={tmp_path}/validation.npz",
        f"--floors=real={tmp_path}/train.npz",
        "--steps=1,2",  # Where a network has none of its own.
        "--count=3",
        "--resamples=3",
    )
    assert code is None
    values = json.loads((tmp_path / "out" / "results.json").read_text())
    assert values["floors"]["real"]["count"] == 3  # As many as are generated.
    assert [point["point"] for point in values["points"]] == [
        {"network": "int8", "steps": 1, "guidance": 4.0},
        {"network": "own", "steps": 1, "guidance": 2.0},
        {"network": "own", "steps": 2, "guidance": 2.0},
        {"network": "more", "steps": 1, "guidance": 2.0},
        {"network": "more", "steps": 2, "guidance": 2.0},
    ]
    *others, one, two = (point["difference"] for point in values["points"])
    assert others == [None] * 3  # Another scale, and the baseline itself.
    # It is the same bundle: the same pictures, in as many steps.
    assert (one["baseline"], two["baseline"]) == ("own, 1 steps", "own, 2 steps")
    assert one["clip_score"]["value"] == two["clip_score"]["value"] == 0.0
    scores = [p["agreement"]["clip_score"]["value"] for p in values["points"]]
    assert scores[1] != scores[2]
    known = json.loads((tmp_path / "out" / "sweep.json").read_text())["networks"]
    assert known["int8"] == f"{known['own']}, dpmpp_2m"


def test_trainings_of_one_network_are_compared_with_those_of_the_same_number(
    runs, bundle, tmp_path, capsys
):
    names = ("alone", "base@1", "base@2", "other@1", "other@2", "other@3")
    code = ending(
        "sweep",
        f"--networks={','.join(f'{name}={bundle}?steps=1' for name in names)}",
        "--baseline=base",
        "--resolution=16",
        f"--clip={runs}/clip/weights.safetensors",
        f"--output={tmp_path}",
        "--count=3",
        "--resamples=3",
    )
    assert code is None
    values = json.loads((tmp_path / "results.json").read_text())
    compared = {
        point["point"]["network"]: point["difference"]["baseline"]
        for point in values["points"]
        if point["difference"]
    }
    assert compared == {"other@1": "base@1, 1 steps", "other@2": "base@2, 1 steps"}
    lines = [line for line in capsys.readouterr().out.splitlines() if "not compared" in line]
    assert [line.partition(",")[0] for line in lines] == ["alone", "other@3"]
    base, other = values["trainings"]
    assert (base["trainings"], other["trainings"]) == (2, 3)
    assert base["agreement"]["clip_score"]["error"] == 0.0  # It is one bundle.


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--steps=1", "--count=39"], "was begun with other settings: count was 40, is 39"),
        (["--guidance=1,x"], "--guidance is '1,x'; it is a list of numbers, 0 or more"),
        (["--steps=0"], "--steps is '0'; it is a list of numbers, 1 or more"),
        (["--networks=a=1,a=2"], "--networks has 'a=2'; it is a list of NAME=PATH"),
        (["--networks=a=1,a@1=2"], "--networks has a and a@1: give all trainings of a a number"),
        (["--networks=a@=1"], "--networks has 'a@=1'; it is a list of NAME=PATH"),
        (["--networks=a=x?step=3"], "--networks has 'step=3' for a; behind the ? may come steps="),
        (["--networks=a=x?steps="], "--networks has 'steps=' for a; behind the ? may come"),
        (["--networks=a=x?steps=8&steps=4"], "--networks has 'steps=8&steps=4' for a; behind"),
        (["--networks=a=x?steps=0"], "--networks has 'steps=0' for a; behind the ? may come"),
        (["--networks=a=x?sampler=dpm"], "sampler= (one of ddim, dpmpp_2m,"),
        (["--clip=x"], "x: no such weight file"),
        (["--networks=a=nowhere", "--clip=x"], "No bundle at nowhere"),
        (["--networks=a=nowhere"], "No bundle at nowhere"),
        ([f"--networks=a={SHIPPED}"], "a bundle has no image tower to score pictures with"),
        (["--references=r=nowhere.npz"], "nowhere.npz: no such file of statistics"),
        (["--baseline=a"], "--baseline=a is none of --networks: net"),
        (["--split=test"], "split is 'test'; it must be one of"),
    ],
)
def test_what_cannot_be_swept_is_one_line(runs, swept, more, message):
    kept = (swept / "results.json").read_bytes()
    told = refusal("sweep", *sweep_arguments(runs, swept), *more)
    assert told.startswith("sweep: ") and message in told and "\n" not in told
    assert (swept / "results.json").read_bytes() == kept


def test_a_tfds_split_is_the_data_set_that_is_made_of_it(runs, tmp_path):
    clip = f"--clip={runs}/clip/weights.safetensors"
    name = f"{data_root()}/emoji/16px/{EMOJI_VERSION}:holdout"
    for given, file in (
        ([f"--tfds={name}", "--side=16"], "tfds"),
        (["--dataset=emoji", "--split=holdout", "--resolution=16", "--nofeatures"], "own"),
    ):
        output = f"--output={tmp_path}/{file}.npz"
        assert ending("reference_statistics", *given, clip, output) is None
    theirs, own = (load_reference(tmp_path / f"{file}.npz") for file in ("tfds", "own"))
    assert theirs.moments.count == own.moments.count == len(theirs.features)
    assert own.features is None and own.space == theirs.space
    np.testing.assert_allclose(theirs.moments.mean, own.moments.mean, atol=1e-6)
    np.testing.assert_allclose(theirs.moments.covariance, own.moments.covariance, atol=1e-6)


@pytest.fixture
def folder(tmp_path):
    """Five pictures, one of them below, and a file that is none."""
    rng = np.random.default_rng(0)
    (tmp_path / "photos" / "more").mkdir(parents=True)
    for i, name in enumerate(("a.png", "b.jpg", "c.png", "d.webp", "more/e.png")):
        pixels = rng.integers(0, 256, [20 + i, 31, 3], dtype=np.uint8)
        Image.fromarray(pixels).save(tmp_path / "photos" / name)
    (tmp_path / "photos" / "f.png").write_bytes(b"no picture")
    return tmp_path / "photos"


def test_a_folder_of_pictures(runs, folder, tmp_path, capsys):
    output = tmp_path / "r.npz"
    arguments = [f"--folder={folder}", f"--clip={runs}/clip/weights.safetensors", "--side=16"]
    assert ending("reference_statistics", *arguments, f"--output={output}") is None
    printed = capsys.readouterr()
    assert printed.out.startswith("5 pictures of 16 x 16 pixels, clip:")
    assert "1 cannot be used, such as f.png" in printed.err
    found = load_reference(output)
    assert found.features.shape == (5, found.width) and found.side == 16


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--folder={empty}"], "holds no picture that can be used"),
        (["--folder=nowhere"], "path is 'nowhere'; it must be a folder of pictures"),
        (["--folder={one}"], "1 pictures have no covariance; take at least 2"),
        (["--dataset=emoji", "--split=test"], "split is 'test'; it must be one of"),
    ],
)
def test_no_pictures_are_one_line_and_leave_the_old_file(runs, tmp_path, arguments, message):
    places = {name: tmp_path / name for name in ("empty", "one")}
    for place in places.values():
        place.mkdir()
    Image.new("RGB", (20, 20)).save(places["one"] / "a.png")
    output = tmp_path / "r.npz"
    output.write_text("earlier")
    filled = [argument.format(**places) for argument in arguments]
    clip = f"--clip={runs}/clip/weights.safetensors"
    told = refusal("reference_statistics", *filled, clip, "--side=16", f"--output={output}")
    assert told.startswith("reference_statistics: ") and message in told
    assert pathlib.Path(output).read_text() == "earlier"
