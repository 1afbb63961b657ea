"""The program as it is run, on the real data where that lies ready and on an empty machine."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.data.prepared.sources import example, write_folder, write_tar
from tfsnap.data.catalogue import EMOJI_VERSION

ROOT = Path(__file__).parents[2]


def prepare_data(*arguments, **environment):
    return subprocess.run(
        [sys.executable, "tools/prepare_data.py", *arguments],
        cwd=ROOT,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=False,
    )


def test_it_says_what_there_is_and_where():
    done = prepare_data("--dataset=emoji", "--resolution=16")
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert [line.split() for line in lines[-4:-1]] == [
        ["train", "12295", "pictures"],
        ["validation", "744", "pictures"],
        ["holdout", "703", "pictures"],
    ]
    folder = Path(lines[-1].removeprefix("Data: "))
    assert (folder / "dataset_info.json").is_file()
    assert folder.parts[-3:] == ("emoji", "16px", EMOJI_VERSION)


def test_without_npm_one_line_says_what_to_do(tmp_path):
    done = prepare_data(f"--data_dir={tmp_path}", PATH="")
    assert done.returncode == 1
    (line,) = [line for line in done.stderr.splitlines() if line.startswith("prepare_data: ")]
    assert line == done.stderr.splitlines()[-1]
    assert "npm" in line and "apt-get install npm" in line and str(tmp_path) in line
    assert not done.stdout


def last_line(done):
    """The program's own line, the last on stderr."""
    assert done.returncode == 1, done.stderr
    line = done.stderr.splitlines()[-1]
    assert line.startswith("prepare_data: ") and "Traceback" not in done.stderr
    return line


def test_a_folder_becomes_a_set(tmp_path):
    write_folder(tmp_path / "photos", 40)
    (tmp_path / "photos" / "bad.jpg").write_text("text")
    (tmp_path / "photos" / "bad.txt").write_text("a caption")
    out = tmp_path / "out"
    arguments = (
        "--dataset=folder",
        f"--path={tmp_path / 'photos'}",
        f"--output={out}",
        "--resolution=16",
        "--validation=0.2",
    )
    done = prepare_data(*arguments)
    assert done.returncode == 0, done.stderr
    counts = json.loads((out / "set.json").read_text())["splits"]
    assert done.stdout.splitlines() == [
        "reading: 41/41 pictures",
        f"train        {counts['train']['16x16']:8} pictures",
        f"validation   {counts['validation']['16x16']:8} pictures",
        "skipped             1",
        "         1 not a picture that can be read: bad.jpg",
        f"Data:  {out}; its report.json has these numbers, too",
        f"Train: tools/train.py --config=... --config.data.dataset={out} "
        "--config.data.resolution=16",
    ]
    again = prepare_data(*arguments)
    assert (again.returncode, again.stdout) == (0, done.stdout)
    other = prepare_data(*arguments[:-1], "--validation=0.3")
    assert "recipe.validation was 0.2, is 0.3. Choose another --output" in last_line(other)


def test_tars_become_a_set_of_buckets(tmp_path):
    for shard in range(2):
        members = [example(10 * shard + number) for number in range(10)]
        write_tar(tmp_path / f"{shard:02d}.tar", {k: v for one in members for k, v in one.items()})
    done = prepare_data(
        "--dataset=webdataset",
        f"--path={tmp_path}/{{00..01}}.tar",
        f"--output={tmp_path / 'out'}",
        "--resolution=32",
        "--min_size=1",
        "--buckets",
        "--validation=0.4",
    )
    assert done.returncode == 0, done.stderr
    splits = json.loads((tmp_path / "out" / "set.json").read_text())["splits"]
    assert sum(splits[split]["32x32"] for split in ("train", "validation")) == 20


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--dataset=folder"], "--dataset=folder needs --path and --output"),
        (["--dataset=folder", "--path=none", "--output=o"], "path is 'none'; it must be a folder"),
        (["--dataset=webdataset", "--path=x{0..1}.tar", "--output=o"], "2 of 2 tar files are not"),
        (
            ["--dataset=folder", "--path=x", "--output=o", "--bucket_step=8"],
            "--bucket_step=8 is for --buckets",
        ),
        (
            ["--dataset=webdataset", "--path=x", "--output=o", "--captions=x.csv"],
            "--captions says nothing about --dataset=webdataset: leave it out, or give "
            "--dataset=folder",
        ),
        (
            ["--dataset=emoji", "--validation=0.5", "--buckets", "--caption_feature=x"],
            "--validation and --buckets say nothing about --dataset=emoji: leave them out, or",
        ),
        (
            ["--dataset=folder", "--path=x", "--output=o", "--image_feature=x", "--data_dir=y"],
            "--image_feature says nothing about --dataset=folder: leave it out, or give "
            "--dataset=tfds",
        ),
        (
            ["--dataset=tfds", "--path=x", "--output=o", "--dtype=bfloat16"],
            "--dtype says nothing about --dataset=tfds: leave it out, or give --latents",
        ),
        (
            ["--config=configs/emoji/unet.py", "--latents=o", "--resolution=16"],
            "--resolution says nothing about --latents, which has the data of --config: leave",
        ),
        (
            ["--dataset=folder", "--path=tests/data", "--output=o", "--validation=2"],
            "Recipe.validation is 2.0; it must be above 0 and below 1",
        ),
    ],
)
def test_what_cannot_be_prepared_is_one_line(arguments, message):
    assert message in last_line(prepare_data(*arguments))
    assert not (ROOT / "o").exists()


def test_nothing_usable_says_why(tmp_path):
    (tmp_path / "a.jpg").touch()
    out = tmp_path / "out"
    done = prepare_data("--dataset=folder", f"--path={tmp_path}", f"--output={out}")
    assert done.returncode == 1 and "Traceback" not in done.stderr
    assert f"prepare_data: {tmp_path}: none of 1 can be used" in done.stderr
    assert done.stderr.splitlines()[-1] == "         1 no caption: a.jpg"


def test_pictures_that_would_be_passed_over_are_one_line(tmp_path):
    done = prepare_data("--path=photos", "--output=set", f"--data_dir={tmp_path}", PATH="")
    assert last_line(done) == (
        "prepare_data: --path and --output say nothing about --dataset=emoji: leave them out, or "
        "give --dataset=folder or --dataset=webdataset or --dataset=tfds"
    )
