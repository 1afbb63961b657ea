"""tools/profile.py as a user types it."""

import json

import pytest

from tests.full_disk import full_disk
from tests.small_unet import CONFIG
from tests.tools.refusals import ending, refusal

SMALL = "--latent=8x8"


@pytest.fixture
def shape(tmp_path):
    (tmp_path / "unet.json").write_text(json.dumps(CONFIG.to_dict()))
    return tmp_path / "unet.json"


def test_figures_are_written_whole(shape, tmp_path, capsys):
    report = tmp_path / "cost.json"
    assert ending("profile", f"--unet={shape}", SMALL, "--tokens=5", f"--json={report}") is None
    assert "down.0" in capsys.readouterr().out
    before = report.read_text()
    assert json.loads(before)["blocks"]
    with full_disk():
        told = refusal("profile", f"--unet={shape}", SMALL, f"--json={report}")
    assert str(report) in told and report.read_text() == before
    assert sorted(tmp_path.iterdir()) == [report, shape]


def test_where_figures_cannot_go_is_told_before_the_work(shape, tmp_path, capsys):
    assert "no folder" in refusal("profile", f"--unet={shape}", f"--json={tmp_path}/none/x.json")
    assert "is the model" in refusal("profile", f"--unet={shape}", f"--json={shape}")
    assert capsys.readouterr().out == ""
    assert json.loads(shape.read_text()) == CONFIG.to_dict()


@pytest.mark.parametrize(
    "values", ["[1, 2]", "null", '{"down": 3}', '{"groups": 0}', '{"mid": {"channels": []}}', "{"]
)
def test_a_file_that_is_no_shape_is_one_line(shape, values):
    shape.write_text(values)
    told = refusal("profile", f"--unet={shape}")
    assert told.startswith(f"profile: {shape}: no UNetConfig can be made of it (")


def test_a_flag_that_would_do_nothing_is_refused():
    told = refusal("profile", "--decoder=tiny", "--tokens=5")
    assert (
        told == "profile: --tokens says nothing about an autoencoder: leave it out, or give --unet"
    )
