"""The program as it is run, on the real data where that lies ready and on an empty machine."""

import os
import subprocess
import sys
from pathlib import Path

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
        ["train", "12287", "pictures"],
        ["validation", "749", "pictures"],
        ["holdout", "706", "pictures"],
    ]
    folder = Path(lines[-1].removeprefix("Data: "))
    assert (folder / "dataset_info.json").is_file()
    assert folder.parts[-3:] == ("emoji", "16px", "1.0.0")


def test_without_npm_one_line_says_what_to_do(tmp_path):
    done = prepare_data(f"--data_dir={tmp_path}", PATH="")
    assert done.returncode == 1
    (line,) = [line for line in done.stderr.splitlines() if line.startswith("prepare_data: ")]
    assert line == done.stderr.splitlines()[-1]
    assert "npm" in line and "apt-get install npm" in line and str(tmp_path) in line
    assert not done.stdout
