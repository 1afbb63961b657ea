"""Bundles of several sizes of picture, and of networks in chunks, are checked whole."""

import dataclasses
import json

import pytest

from tests.tools.refusals import ending, refusal
from tfsnap.config import write_json
from tfsnap.export.bundle_writer import write_bundle
from tfsnap.export.rules.checker import check_model
from tfsnap.export.rules.limits import GpuClass
from tfsnap.export.rules.models import models_of
from tfsnap.export.rules.ranges import load_ranges
from tfsnap.export.rules.recorder import record_bundle
from tfsnap.export.rules.report import table, to_json
from tfsnap.export.rules.targets import TARGETS
from tfsnap.runtime.bundle import Bundle

SIZES = ((16, 24), (64, 64))


@pytest.fixture(scope="module")
def sized(latent_diffusion, bundle_spec, session_dir):
    """A bundle of two sizes of picture, with the UNet in two chunks."""
    path = session_dir / "rules-sized"
    write_bundle(latent_diffusion, path, bundle_spec("fp16", shapes=SIZES, chunks=2))
    return path


@pytest.fixture(scope="module")
def ranges(bundles, session_dir):
    """The recording of the bundle of one size, as a file."""
    path = session_dir / "rules-ranges.json"
    write_json(path, record_bundle(Bundle.open(bundles["fp16"])))
    return path


def test_every_size_is_checked_and_findings_name_theirs(sized):
    # Images are too small for the second size alone.
    gpu = GpuClass("small", image=512, layers=64, buffer=1 << 16, source="this test")
    with models_of(sized) as models:
        assert [model.name for model in models] == [
            "text_encoder", "unet, chunk 0", "unet, chunk 1", "decoder",
        ]  # fmt: skip
        decoder = models[-1]
        verdict = check_model(decoder.path, TARGETS["gpu"], name=decoder.name, gpu=gpu)
    assert {finding.graph for finding in verdict.findings if finding.fails} == {"64x64"}
    assert "    64x64 #" in table([verdict])
    (report,) = to_json([verdict])
    assert {finding["signature"] for finding in report["findings"]} == {"64x64"}


def test_chunks_are_judged_by_the_ranges_of_their_network(sized, ranges, tmp_path, capsys):
    hot = {
        component: {name: (-7e4, 7e4) for name in found}
        for component, found in load_ranges(ranges).items()
    }
    write_json(tmp_path / "hot.json", {"unet": hot["unet"]})
    report = tmp_path / "report.json"
    flags = ("--target=gpu", f"--ranges={tmp_path}/hot.json", f"--json={report}")
    assert ending("check_delegate", sized, *flags) == 1
    found = {verdict["model"]: verdict for verdict in json.loads(report.read_text())}
    for name in ("unet, chunk 0", "unet, chunk 1"):
        rules = {(finding["rule"], finding["signature"]) for finding in found[name]["findings"]}
        assert rules == {("overflow", "serving_default"), ("overflow", "64x64")}
    assert found["text_encoder"]["without_ranges"] == [""]
    assert found["decoder"]["without_ranges"] == ["serving_default", "64x64"]
    told = capsys.readouterr().out
    assert "  no recorded ranges are of it: overflow was not looked for there" in told
    assert "  no recorded ranges are of it (serving_default, 64x64): overflow was not" in told
    assert told.count("no recorded ranges") == 2


def test_a_recording_has_every_network_of_the_bundle(bundles, ranges, capsys):
    assert set(load_ranges(ranges)) == {"text_encoder", "unet", "decoder", "encoder"}
    assert ending("check_delegate", bundles["fp16"], "--target=gpu", f"--ranges={ranges}") == 0
    assert "no recorded ranges" not in capsys.readouterr().out


def test_a_bundle_without_goldens_is_not_recorded(bundles, tmp_path):
    bundle = Bundle.open(bundles["fp16"])
    bundle.manifest = dataclasses.replace(bundle.manifest, goldens=None)
    with pytest.raises(ValueError, match="has no goldens, whose prompt would be drawn"):
        record_bundle(bundle)


def test_a_network_in_chunks_is_not_recorded(sized, tmp_path):
    told = refusal("check_delegate", sized, "--target=gpu", f"--record={tmp_path}/ranges.json")
    assert "record with the same bundle without --chunks" in told
